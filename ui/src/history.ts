import {
  asProblem,
  cancelPrediction,
  deletePrediction,
  type Prediction,
  readPage,
  readPrediction,
  sendFeedback,
} from "./api";
import { PAGE, type PredictionStore, type Reading } from "./predictions";
import { isTerminal } from "./status";

/** The newest page and, after a break in the stream, what it may have missed of this page's uploads. */
export async function catchUp(store: PredictionStore): Promise<void> {
  await orProblem(store, "newest", async () => {
    store.receiveNewest(await readPage({ limit: PAGE }));
    for (const id of store.unfinishedUploads()) {
      await unlessRemoved(store, id, async () => store.receive(await readPrediction(id)));
    }
  });
}

export async function readOlder(store: PredictionStore): Promise<void> {
  const page = store.showOlder();
  if (page) await orProblem(store, "older", async () => store.receiveOlder(page, await readPage(page)));
}

/** Withdraws what has not ended, and removes the rest. Throws the problem, as `correct` does. */
export async function withdraw(store: PredictionStore, prediction: Prediction): Promise<void> {
  await unlessRemoved(store, prediction.id, async () => {
    if (isTerminal(prediction)) {
      await deletePrediction(prediction);
      store.remove(prediction.id);
    } else {
      store.receive(await cancel(prediction));
    }
  });
  store.publish();
}

export async function correct(
  store: PredictionStore,
  prediction: Prediction,
  label: string | null,
): Promise<void> {
  await unlessRemoved(store, prediction.id, async () => {
    store.receive(await sendFeedback(prediction, label));
  });
  store.publish();
}

/** How it was canceled, or how it ended before. */
async function cancel(prediction: Prediction): Promise<Prediction> {
  try {
    return await cancelPrediction(prediction);
  } catch (error) {
    if (asProblem(error).status !== 409) throw error;
    return readPrediction(prediction.id);
  }
}

/** What is no longer stored was removed elsewhere, and goes from this page too. */
async function unlessRemoved(store: PredictionStore, id: string, ask: () => Promise<void>): Promise<void> {
  try {
    await ask();
  } catch (error) {
    if (asProblem(error).status !== 404) throw error;
    store.remove(id);
  }
}

async function orProblem(store: PredictionStore, reading: Reading, read: () => Promise<void>): Promise<void> {
  try {
    await read();
  } catch (error) {
    store.setHistoryProblem(reading, asProblem(error));
  }
}
