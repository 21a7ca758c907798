/** Holds an immutable snapshot and notifies listeners when it is replaced. Does not depend on React. */
export class Store<Snapshot extends object> {
  #listeners = new Set<() => void>();
  #snapshot: Snapshot;

  constructor(initial: Snapshot) {
    this.#snapshot = initial;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  getSnapshot = (): Snapshot => this.#snapshot;

  protected change(members: Partial<Snapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...members };
    for (const listener of this.#listeners) listener();
  }
}
