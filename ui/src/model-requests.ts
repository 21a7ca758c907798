import { activateModel, asProblem, type Model, readModels } from "./api";
import type { ModelStore } from "./models";

export async function refreshModels(store: ModelStore): Promise<void> {
  const request = store.nextRequest();
  try {
    store.receive(request, (await readModels()).results);
  } catch (error) {
    store.setProblem(asProblem(error));
  }
}

/** Throws an `ApiProblem`. */
export async function activate(store: ModelStore, model: Model): Promise<void> {
  await activateModel(model);
  await refreshModels(store);
}
