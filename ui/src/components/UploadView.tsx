import { useCallback, useEffect } from "react";
import type { PredictionStore, Snapshot, Upload } from "../predictions";
import type { UploadQueue } from "../uploads";
import { Cards } from "./Cards";
import { DropZone } from "./DropZone";
import { HistoryList } from "./HistoryList";
import { Samples } from "./Samples";

type Props = { store: PredictionStore; snapshot: Snapshot; queue: UploadQueue };

export function UploadView({ store, snapshot, queue }: Props) {
  const add = useCallback((files: readonly File[]) => queue.add(files), [queue]);
  const tryAgain = useCallback((...uploads: Upload[]) => queue.tryAgain(uploads), [queue]);
  usePaste(add);

  return (
    <main>
      <section className="start" aria-label="Upload">
        <DropZone onFiles={add} />
        <Samples onFiles={add} />
      </section>
      <Cards
        cards={snapshot.cards}
        further={snapshot.further}
        onTryAgain={tryAgain}
        onClear={() => store.clearFinished()}
      />
      <HistoryList store={store} snapshot={snapshot} />
    </main>
  );
}

function usePaste(onFiles: (files: readonly File[]) => void): void {
  useEffect(() => {
    const paste = (event: ClipboardEvent) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length > 0) onFiles(files);
    };
    document.addEventListener("paste", paste);
    return () => document.removeEventListener("paste", paste);
  }, [onFiles]);
}
