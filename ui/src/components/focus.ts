import { type RefObject, useLayoutEffect, useRef } from "react";

export type FocusTarget = RefObject<HTMLElement | null>;

/** Returns a ref for an element. If the element is removed while the focus is inside, `nextFocus` gets the focus. */
export function useFocusHandover<E extends HTMLElement>(nextFocus: FocusTarget): RefObject<E | null> {
  const ref = useRef<E>(null);
  useLayoutEffect(() => {
    const element = ref.current;
    return () => {
      // This runs before React removes the element.
      if (element?.contains(document.activeElement)) nextFocus.current?.focus({ preventScroll: true });
    };
  }, [nextFocus]);
  return ref;
}
