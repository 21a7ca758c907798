import type { ComponentProps } from "react";
import { type FocusTarget, useFocusHandover } from "./focus";

type Props = Omit<ComponentProps<"button">, "ref" | "type"> & { nextFocus: FocusTarget };

/** A button that can disappear when it is used. Its focus then moves to `nextFocus`. */
export function TransientButton({ nextFocus, className = "button", ...others }: Props) {
  const ref = useFocusHandover<HTMLButtonElement>(nextFocus);
  return <button type="button" ref={ref} className={className} {...others} />;
}
