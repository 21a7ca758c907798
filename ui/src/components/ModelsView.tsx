import { useEffect, useSyncExternalStore } from "react";
import { refreshModels } from "../model-requests";
import { isAwaited, type ModelStore } from "../models";
import { refreshTrainings } from "../training-requests";
import type { TrainingStore } from "../trainings";
import { ModelList } from "./ModelList";
import { TrainingSection } from "./TrainingSection";

const REFRESH_MS = 10_000; // what others start, publish and activate
const AWAITED_MS = 1000; // a worker swaps within seconds

export function ModelsView({ models, trainings }: { models: ModelStore; trainings: TrainingStore }) {
  const snapshot = useSyncExternalStore(models.subscribe, models.getSnapshot);
  useRefresh(() => refreshModels(models), snapshot.models.some(isAwaited) ? AWAITED_MS : REFRESH_MS);
  useRefresh(() => refreshTrainings(trainings), REFRESH_MS);
  return (
    <main className="columns">
      <ModelList store={models} snapshot={snapshot} />
      <TrainingSection store={trainings} onEnd={() => refreshModels(models)} />
    </main>
  );
}

/** Now, and then again and again while the page is in sight. */
function useRefresh(refresh: () => Promise<void>, everyMs: number): void {
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new closure is no reason to read again
  useEffect(() => {
    void refresh();
    const timer = setInterval(() => {
      if (!document.hidden) void refresh();
    }, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
}
