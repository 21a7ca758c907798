import {
  asProblem,
  cancelTraining,
  type NewTraining,
  readTraining,
  readTrainings,
  startTraining,
  type Training,
} from "./api";
import { isTerminal } from "./status";
import { followTraining } from "./stream";
import { RECENT, type TrainingStore } from "./trainings";

export async function refreshTrainings(store: TrainingStore): Promise<void> {
  const revision = store.getRevision();
  try {
    store.receivePage(revision, await readTrainings(RECENT));
  } catch (error) {
    store.setProblem(asProblem(error));
  }
}

/** Starts a run and selects it. Throws an `ApiProblem`. */
export async function start(store: TrainingStore, wanted: NewTraining): Promise<void> {
  const training = await startTraining(wanted);
  store.receive(training);
  store.select(training.id);
}

/** Throws an `ApiProblem`. */
export async function cancel(store: TrainingStore, training: Training): Promise<void> {
  store.receive(await cancelTraining(training));
}

/** Reads the complete learning curve of a run that has ended. */
export async function readCurve(store: TrainingStore, ended: Training): Promise<void> {
  try {
    const { curve, ...training } = await readTraining(ended);
    store.receive(training);
    store.setCurve(training.id, curve);
  } catch (error) {
    store.setCurveProblem(ended.id, asProblem(error));
  }
}

/** Follows the stream of an unfinished run until it ends. Returns a function that closes it. */
export function follow(store: TrainingStore, { id, urls }: Training, onEnd: () => void): () => void {
  store.setConnection("connecting");
  const close = followTraining(urls.events, {
    onTraining: (training) => {
      store.receive(training);
      if (!isTerminal(training)) return;
      close();
      onEnd();
    },
    onEpoch: (epoch) => store.receiveEpoch(id, epoch),
    onConnection: (connection) => store.setConnection(connection),
  });
  return close;
}
