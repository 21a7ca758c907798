import { useSyncExternalStore } from "react";
import type { Store } from "../store";

/** The store's current snapshot; the component renders again when it is replaced. */
export function useStore<Snapshot extends object>(store: Store<Snapshot>): Snapshot {
  return useSyncExternalStore(store.subscribe, store.getSnapshot);
}
