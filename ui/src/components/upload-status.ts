import type { Prediction } from "../api";
import { formatPercent } from "../format";
import type { Card } from "../predictions";
import { statusLabels } from "../status";
import type { Stage } from "../upload-list";

export const UNFAMILIAR = "Looks like none of the model's classes";

type Tone = "pending" | "running" | "succeeded" | "unsuccessful";

const tones: Record<Prediction["status"], Tone> = {
  queued: "pending",
  running: "running",
  succeeded: "succeeded",
  failed: "unsuccessful",
  canceled: "unsuccessful",
};

/** The headline of an upload's card, and its tone, which sets the colour. */
export function describeUpload(
  stage: Stage,
  prediction: Prediction | undefined,
): { headline: string; tone: Tone } {
  if (stage.at === "waiting") return { headline: "Waiting to upload", tone: "pending" };
  if (stage.at === "sending") {
    // After the last byte the service still decodes and stores the image.
    return { headline: stage.fraction < 1 ? "Uploading" : "Processing", tone: "running" };
  }
  if (stage.at === "refused") return { headline: stage.problem.title, tone: "unsuccessful" };
  const status = prediction?.status ?? "queued";
  return {
    headline: prediction?.prediction ?? prediction?.error?.title ?? statusLabels[status],
    tone: tones[status],
  };
}

/** How an upload ended, in one line; null if it has not ended. */
export function describeOutcome({ upload, prediction }: Card): string | null {
  const { headline, tone } = describeUpload(upload.stage, prediction);
  if (tone === "pending" || tone === "running") return null;
  const parts = [`${upload.file.name}: ${headline}`];
  if (tone === "succeeded" && prediction) {
    if (prediction.confidence !== null) parts.push(formatPercent(prediction.confidence));
    if (prediction.unfamiliar) parts.push(UNFAMILIAR.toLowerCase());
  }
  return parts.join(", ");
}
