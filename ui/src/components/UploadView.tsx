import { useCallback, useRef } from "react";
import type { PredictionStore, Snapshot } from "../predictions";
import type { Upload } from "../upload-list";
import type { UploadQueue } from "../upload-queue";
import { Cards } from "./Cards";
import { DropZone } from "./DropZone";
import { HistoryList } from "./HistoryList";
import { Samples } from "./Samples";

type Props = { store: PredictionStore; snapshot: Snapshot; queue: UploadQueue };

export function UploadView({ store, snapshot, queue }: Props) {
  const chooser = useRef<HTMLInputElement>(null);
  const add = useCallback((files: readonly File[]) => queue.add(files), [queue]);
  const retry = useCallback((...uploads: Upload[]) => queue.retry(uploads), [queue]);
  const dismiss = useCallback((upload: Upload) => store.dismiss(upload), [store]);

  return (
    <main>
      <section className="start" aria-label="Upload">
        <DropZone chooser={chooser} onFiles={add} />
        <Samples onFiles={add} />
      </section>
      <Cards
        cards={snapshot.cards}
        withoutCard={snapshot.withoutCard}
        chooser={chooser}
        onRetry={retry}
        onDismiss={dismiss}
        onClear={() => store.clearFinished()}
      />
      <HistoryList store={store} snapshot={snapshot} />
    </main>
  );
}
