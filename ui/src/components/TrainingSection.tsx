import { useEffect, useRef } from "react";
import { isTerminal } from "../status";
import { follow, readCurve, refreshTrainings } from "../training-requests";
import type { TrainingStore } from "../trainings";
import { Notice } from "./Notice";
import { SectionTitle } from "./SectionTitle";
import { TrainForm } from "./TrainForm";
import { TrainingList } from "./TrainingList";
import { TrainingRun } from "./TrainingRun";
import { useStore } from "./use-store";

type Props = { store: TrainingStore; onEnd: () => void };

export function TrainingSection({ store, onEnd }: Props) {
  const { trainings, read, problem, shown, curve, curveProblem, connection } = useStore(store);
  const heading = useRef<HTMLHeadingElement>(null);
  useFollowShown(store, onEnd);
  return (
    <section className="training" aria-labelledby="train-title">
      <SectionTitle id="train-title" title="Train" heading={heading} />
      <TrainForm store={store} />
      {problem && (
        <Notice problem={problem} retry={{ act: () => refreshTrainings(store), nextFocus: heading }} />
      )}
      {shown && <TrainingRun store={store} training={shown} curve={curve} connection={connection} />}
      {shown && curveProblem && (
        <Notice problem={curveProblem} retry={{ act: () => readCurve(store, shown), nextFocus: heading }} />
      )}
      {read && trainings.length === 0 && (
        <p className="empty-state">No trainings yet. The learning curve of a training appears here.</p>
      )}
      {trainings.length > 0 && (
        <TrainingList trainings={trainings} shown={shown} onSelect={(id) => store.select(id)} />
      )}
    </section>
  );
}

/** Follows the stream of the shown run until it ends; then reads its learning curve once. */
function useFollowShown(store: TrainingStore, onEnd: () => void): void {
  const { shown } = store.getSnapshot();
  const ended = shown !== null && isTerminal(shown);
  // biome-ignore lint/correctness/useExhaustiveDependencies: only the run's id and its end matter
  useEffect(() => {
    if (shown && !ended) {
      return follow(store, shown, () => {
        void refreshTrainings(store);
        onEnd();
      });
    }
    if (shown) void readCurve(store, shown);
    return undefined;
  }, [store, shown?.id, ended]);
}
