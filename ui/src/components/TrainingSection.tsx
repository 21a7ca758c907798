import { useEffect, useRef, useSyncExternalStore } from "react";
import { isTerminal } from "../status";
import { follow, readCurve, refreshTrainings } from "../training-requests";
import type { TrainingStore } from "../trainings";
import { Notice } from "./Notice";
import { TrainForm } from "./TrainForm";
import { TrainingList } from "./TrainingList";
import { TrainingRun } from "./TrainingRun";

type Props = { store: TrainingStore; onEnd: () => void };

export function TrainingSection({ store, onEnd }: Props) {
  const { trainings, read, problem, shown, curve, curveProblem, connection } = useSyncExternalStore(
    store.subscribe,
    store.getSnapshot,
  );
  const heading = useRef<HTMLHeadingElement>(null);
  useShown(store, onEnd);
  return (
    <section className="training" aria-labelledby="train-title">
      <div className="section-title">
        <h2 id="train-title" ref={heading} tabIndex={-1}>
          Train
        </h2>
      </div>
      <TrainForm store={store} />
      {problem && <Notice problem={problem} again={{ ask: () => refreshTrainings(store), heir: heading }} />}
      {shown && <TrainingRun store={store} training={shown} curve={curve} connection={connection} />}
      {shown && curveProblem && (
        <Notice problem={curveProblem} again={{ ask: () => readCurve(store, shown), heir: heading }} />
      )}
      {read && trainings.length === 0 && <p className="nothing">No run yet. Its curve will grow here.</p>}
      {trainings.length > 0 && (
        <TrainingList trainings={trainings} shown={shown} onSelect={(id) => store.select(id)} />
      )}
    </section>
  );
}

/** The one run looked at has a stream while it goes on, and its curve is read once when it does not. */
function useShown(store: TrainingStore, onEnd: () => void): void {
  const { shown } = store.getSnapshot();
  const ended = shown !== null && isTerminal(shown);
  // biome-ignore lint/correctness/useExhaustiveDependencies: of the run, its id and its end alone matter
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
