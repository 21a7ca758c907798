import { asProblem, type PageRequest, readPage, readPrediction } from "./api";
import { PAGE, type PredictionStore } from "./predictions";

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
    await orProblem(store, async () => store.receive(await readPrediction(id)));
  }
}

async function orProblem(store: PredictionStore, read: () => Promise<void>): Promise<void> {
  try {
    await read();
  } catch (error) {
    store.setHistoryProblem(asProblem(error));
  }
}
