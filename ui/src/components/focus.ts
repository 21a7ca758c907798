import { type RefObject, useLayoutEffect, useRef } from "react";

export type Place = RefObject<HTMLElement | null>;

/** What the ref is put on may go while it has the focus, itself or inside; `heir` gets the focus then. */
export function useHeir<E extends HTMLElement>(heir: Place): RefObject<E | null> {
  const ref = useRef<E>(null);
  useLayoutEffect(() => {
    const element = ref.current;
    return () => {
      // React cleans up before it takes the element off the page.
      if (element?.contains(document.activeElement)) heir.current?.focus({ preventScroll: true });
    };
  }, [heir]);
  return ref;
}
