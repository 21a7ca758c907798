import {
  asProblem,
  cancelPrediction,
  deletePrediction,
  type PageRequest,
  type Prediction,
  readPage,
  readPrediction,
  sendFeedback,
} from "./api";
import { isTerminal, PAGE, type PredictionStore } from "./predictions";

export async function readNewest(store: PredictionStore): Promise<void> {
  await orProblem(store, async () => store.receiveNewest(await readPage({ limit: PAGE })));
}

export async function readOlder(store: PredictionStore): Promise<void> {
  const page: PageRequest | null = store.showOlder();
  if (page) await orProblem(store, async () => store.receiveOlder(page, await readPage(page)));
}

/** After a break in the stream: what it may have missed. */
export async function catchUp(store: PredictionStore): Promise<void> {
  await readNewest(store);
  for (const id of store.unfinishedUploads()) {
    try {
      store.receive(await readPrediction(id));
    } catch (error) {
      const problem = asProblem(error);
      if (problem.status === 404) store.remove(id);
      else store.setHistoryProblem(problem);
    }
  }
}

/** Withdraws what has not ended, and removes the rest. Throws the problem, as `correct` does. */
export async function withdraw(store: PredictionStore, prediction: Prediction): Promise<void> {
  try {
    if (!isTerminal(prediction)) return store.receive(await cancelPrediction(prediction));
    await deletePrediction(prediction);
  } catch (error) {
    if (asProblem(error).status !== 404) throw error; // else it was removed elsewhere
  }
  store.remove(prediction.id);
}

export async function correct(
  store: PredictionStore,
  prediction: Prediction,
  label: string | null,
): Promise<void> {
  store.receive(await sendFeedback(prediction, label));
}

async function orProblem(store: PredictionStore, read: () => Promise<void>): Promise<void> {
  try {
    await read();
  } catch (error) {
    store.setHistoryProblem(asProblem(error));
  }
}
