import type { Prediction, Training } from "./api";

/** Whether a prediction, or a training, has ended. */
export function isTerminal({ status }: Pick<Prediction | Training, "status">): boolean {
  return status !== "queued" && status !== "running";
}
