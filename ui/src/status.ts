import type { Prediction, Training } from "./api";

/** Whether the status of a prediction or a training can no longer change. */
export function isTerminal({ status }: Pick<Prediction | Training, "status">): boolean {
  return status !== "queued" && status !== "running";
}
