import { activateModel, asProblem, type Model, readModels } from "./api";
import type { ModelStore } from "./models";

export async function refreshModels(store: ModelStore): Promise<void> {
  const asked = store.ask();
  try {
    store.receive(asked, (await readModels()).results);
  } catch (error) {
    store.setProblem(asProblem(error));
  }
}

/** Throws the problem, for the button that asked for it to show. */
export async function activate(store: ModelStore, model: Model): Promise<void> {
  await activateModel(model);
  await refreshModels(store);
}
