import { useEffect } from "react";
import { refreshModels } from "../model-requests";
import { isActivationPending, type ModelStore } from "../models";
import { refreshTrainings } from "../training-requests";
import type { TrainingStore } from "../trainings";
import { ModelList } from "./ModelList";
import { TrainingSection } from "./TrainingSection";
import { useStore } from "./use-store";

const REFRESH_MS = 10_000; // shows what other users start, publish and activate
const PENDING_MS = 1000; // a worker loads an activated model within seconds

export function ModelsView({ models, trainings }: { models: ModelStore; trainings: TrainingStore }) {
  const snapshot = useStore(models);
  useRefresh(
    () => refreshModels(models),
    snapshot.models.some(isActivationPending) ? PENDING_MS : REFRESH_MS,
  );
  useRefresh(() => refreshTrainings(trainings), REFRESH_MS);
  return (
    <main className="columns">
      <ModelList store={models} snapshot={snapshot} />
      <TrainingSection store={trainings} onEnd={() => refreshModels(models)} />
    </main>
  );
}

/** Calls `refresh` at once, and then every `everyMs` while the page is visible. */
function useRefresh(refresh: () => Promise<void>, everyMs: number): void {
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new closure must not cause a new request
  useEffect(() => {
    void refresh();
    const timer = setInterval(() => {
      if (!document.hidden) void refresh();
    }, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
}
