import type { ComponentProps } from "react";
import { type Place, useHeir } from "./focus";

type Props = Omit<ComponentProps<"button">, "ref" | "type"> & { heir: Place };

/** A button that goes once it has done its work; `heir` gets the focus that it had. */
export function PassingButton({ heir, className = "button", ...others }: Props) {
  const ref = useHeir<HTMLButtonElement>(heir);
  return <button type="button" ref={ref} className={className} {...others} />;
}
