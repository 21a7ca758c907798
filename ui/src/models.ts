/** What this page knows of the published models. No React. */
import type { ApiProblem, Model } from "./api";
import { Store } from "./store";

export type ModelsSnapshot = {
  models: readonly Model[]; // newest first, as the service lists them
  read: boolean;
  problem: ApiProblem | null;
};

/** Whether it is the one to serve, and no worker has begun to yet. */
export function isAwaited({ active, activated_at, served_at }: Model): boolean {
  if (!active || !activated_at) return false;
  return served_at === null || Date.parse(served_at) < Date.parse(activated_at);
}

export class ModelStore extends Store<ModelsSnapshot> {
  #asked = 0;
  #answered = 0;

  constructor() {
    super({ models: [], read: false, problem: null });
  }

  /** To call before the list is read; what it answers goes with what was read. */
  ask(): number {
    return ++this.#asked;
  }

  /** An answer that a later one has overtaken is dropped. */
  receive(asked: number, models: readonly Model[]): void {
    if (asked < this.#answered) return;
    this.#answered = asked;
    this.change({ models, read: true, problem: null });
  }

  setProblem(problem: ApiProblem): void {
    this.change({ problem });
  }
}
