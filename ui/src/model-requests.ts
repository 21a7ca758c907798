import { activateModel, asProblem, type Model, readModels } from "./api";
import type { ModelStore } from "./models";

export async function refreshModels(store: ModelStore): Promise<void> {
  const request = store.nextRequest();
  try {
    store.receive(request, (await readModels()).results);
  } catch (error) {
    store.setProblem(request, asProblem(error));
  }
}

/** Activates a model, and reads the list again. Throws an `ApiProblem` if the activation fails. */
export async function activate(store: ModelStore, model: Model): Promise<void> {
  await activateModel(model);
  await refreshModels(store);
}
