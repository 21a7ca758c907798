import { useEffect, useSyncExternalStore } from "react";
import type { ModelStore } from "../models";
import type { PredictionStore } from "../predictions";
import type { TrainingStore } from "../trainings";
import type { UploadQueue } from "../upload-queue";
import { parseView, type View, watchView } from "../view";
import { Header } from "./Header";
import { useLeaveGuard } from "./leave-guard";
import { ModelsView } from "./ModelsView";
import { OutcomeAnnouncer } from "./OutcomeAnnouncer";
import { UploadView } from "./UploadView";
import { useStore } from "./use-store";

const titles: Record<View, string> = {
  upload: "Image classification",
  models: "Models · Image classification",
};

type Props = { store: PredictionStore; queue: UploadQueue; models: ModelStore; trainings: TrainingStore };

export function App({ store, queue, models, trainings }: Props) {
  const snapshot = useStore(store);
  const view = useSyncExternalStore(watchView, () => parseView(window.location.hash));
  useLeaveGuard(queue);
  useEffect(() => {
    document.title = titles[view];
  }, [view]);

  return (
    <>
      <Header connection={snapshot.connection} view={view} />
      <OutcomeAnnouncer cards={snapshot.cards} />
      {view === "models" ? (
        <ModelsView models={models} trainings={trainings} />
      ) : (
        <UploadView store={store} snapshot={snapshot} queue={queue} />
      )}
    </>
  );
}
