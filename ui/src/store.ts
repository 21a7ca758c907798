/** A value that changes and says so, as useSyncExternalStore wants it. No React. */
export class Store<Snapshot extends object> {
  #listeners = new Set<() => void>();
  #snapshot: Snapshot;

  constructor(first: Snapshot) {
    this.#snapshot = first;
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
