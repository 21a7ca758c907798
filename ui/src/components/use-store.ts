import { useSyncExternalStore } from "react";
import type { Store } from "../store";

/** The store's current snapshot. When the store has a new snapshot, the component renders again. */
export function useStore<Snapshot extends object>(store: Store<Snapshot>): Snapshot {
  return useSyncExternalStore(store.subscribe, store.getSnapshot);
}
