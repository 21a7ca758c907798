import {
  asProblem,
  cancelPrediction,
  deletePrediction,
  type Prediction,
  readPage,
  readPrediction,
  sendFeedback,
} from "./api";
import { type HistoryPart, PAGE, type PredictionStore } from "./predictions";
import { isTerminal } from "./status";

/** Reads the newest page of the history, and the predictions of this tab's uploads that have not ended. */
export async function catchUp(store: PredictionStore): Promise<void> {
  await readPart(store, "newest", async () => {
    store.receiveNewest(await readPage({ limit: PAGE }));
    for (const id of store.unfinishedIds()) {
      await requestOrRemove(store, id, async () => store.receive(await readPrediction(id)));
    }
  });
}

export async function readOlder(store: PredictionStore): Promise<void> {
  const page = store.showOlder();
  if (page) await readPart(store, "older", async () => store.receiveOlder(page, await readPage(page)));
}

/** Cancels a prediction that has not ended, or deletes one that has ended. Throws an `ApiProblem`. */
export async function cancelOrDelete(store: PredictionStore, prediction: Prediction): Promise<void> {
  await requestOrRemove(store, prediction.id, async () => {
    if (isTerminal(prediction)) {
      await deletePrediction(prediction);
      store.remove(prediction.id);
    } else {
      store.receive(await cancel(prediction));
    }
  });
  store.publish();
}

/** Stores the correct label; null removes it. Throws an `ApiProblem`. */
export async function saveFeedback(
  store: PredictionStore,
  prediction: Prediction,
  label: string | null,
): Promise<void> {
  await requestOrRemove(store, prediction.id, async () => {
    store.receive(await sendFeedback(prediction, label));
  });
  store.publish();
}

/** Returns the canceled prediction. If it ended before the cancel, returns it with its outcome. */
async function cancel(prediction: Prediction): Promise<Prediction> {
  try {
    return await cancelPrediction(prediction);
  } catch (error) {
    if (asProblem(error).status !== 409) throw error;
    return readPrediction(prediction.id);
  }
}

/** Runs a request. If the service no longer stores the prediction, removes it from `store`. */
async function requestOrRemove(
  store: PredictionStore,
  id: string,
  request: () => Promise<void>,
): Promise<void> {
  try {
    await request();
  } catch (error) {
    if (asProblem(error).status !== 404) throw error;
    store.remove(id);
  }
}

async function readPart(store: PredictionStore, part: HistoryPart, read: () => Promise<void>): Promise<void> {
  try {
    await read();
  } catch (error) {
    store.setHistoryProblem(part, asProblem(error));
  }
}
