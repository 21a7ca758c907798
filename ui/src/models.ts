/** The published models as last read. Does not depend on React. */
import type { ApiProblem, Model } from "./api";
import { Store } from "./store";

export type ModelsSnapshot = {
  models: readonly Model[]; // newest first
  read: boolean; // whether the list has been read
  problem: ApiProblem | null;
};

/** Whether the model is active, but no worker has served it since its activation. */
export function isActivationPending({ active, activated_at, served_at }: Model): boolean {
  if (!active || !activated_at) return false;
  return served_at === null || Date.parse(served_at) < Date.parse(activated_at);
}

export class ModelStore extends Store<ModelsSnapshot> {
  #latestRequest = 0;
  #latestReceived = 0;

  constructor() {
    super({ models: [], read: false, problem: null });
  }

  /** Numbers a request. Call it before the list is read, and pass the number to `receive` or `setProblem`. */
  nextRequest(): number {
    return ++this.#latestRequest;
  }

  /** Ignores the response if the response of a later request has already arrived. */
  receive(request: number, models: readonly Model[]): void {
    if (request < this.#latestReceived) return;
    this.#latestReceived = request;
    this.change({ models, read: true, problem: null });
  }

  /** Ignores the problem if the response of a later request has already arrived. */
  setProblem(request: number, problem: ApiProblem): void {
    if (request >= this.#latestReceived) this.change({ problem });
  }
}
