import type { Prediction, Training } from "./api";

type Status = (Prediction | Training)["status"];

export const statusLabels: Record<Status, string> = {
  queued: "Queued",
  running: "Running",
  succeeded: "Succeeded",
  failed: "Failed",
  canceled: "Canceled",
};

/** Whether the status of a prediction or a training can no longer change. */
export function isTerminal({ status }: { status: Status }): boolean {
  return status !== "queued" && status !== "running";
}
