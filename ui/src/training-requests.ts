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
  const asked = store.ask();
  try {
    store.receivePage(asked, await readTrainings(RECENT));
  } catch (error) {
    store.setProblem(asProblem(error));
  }
}

/** Throws the problem, for the form to show. The new run is the one to look at. */
export async function start(store: TrainingStore, wanted: NewTraining): Promise<void> {
  const training = await startTraining(wanted);
  store.receive(training);
  store.select(training.id);
}

/** Throws the problem, for the button that asked for it to show. */
export async function cancel(store: TrainingStore, training: Training): Promise<void> {
  store.receive(await cancelTraining(training));
}

/** The whole curve of a run that has ended. */
export async function readCurve(store: TrainingStore, ended: Training): Promise<void> {
  try {
    const { curve, ...training } = await readTraining(ended);
    store.receive(training);
    store.setCurve(training.id, curve);
  } catch (error) {
    store.setCurveProblem(ended.id, asProblem(error));
  }
}

/** Keeps an unfinished run up to date until the function that it returns is called, or until the run ends. */
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
