import type { Prediction } from "../api";
import { formatPercent } from "../format";
import type { Card } from "../predictions";
import type { Stage } from "../upload-list";

export const UNFAMILIAR = "Looks like none of the model's classes";

type Tone = "pending" | "running" | "succeeded" | "refused";

/** How far an upload is, in the words of its card. */
export function describeStage(
  stage: Stage,
  prediction: Prediction | undefined,
): { words: string; tone: Tone } {
  if (stage.at === "waiting") return { words: "Waiting to upload", tone: "pending" };
  if (stage.at === "sending") return { words: "Uploading", tone: "running" };
  if (stage.at === "refused") return { words: stage.problem.title, tone: "refused" };
  switch (prediction?.status) {
    case "running":
      return { words: "Running", tone: "running" };
    case "succeeded":
      return { words: prediction.prediction ?? "", tone: "succeeded" };
    case "failed":
      return { words: prediction.error?.title ?? "Failed", tone: "refused" };
    case "canceled":
      return { words: "Canceled", tone: "refused" };
    default:
      return { words: "Queued", tone: "pending" };
  }
}

/** How an upload ended, for those who do not see its card; null: it has not. */
export function describeOutcome({ upload, prediction }: Card): string | null {
  const { words, tone } = describeStage(upload.stage, prediction);
  if (tone === "pending" || tone === "running") return null;
  const parts = [`${upload.file.name}: ${words}`];
  if (tone === "succeeded" && prediction) {
    if (prediction.confidence !== null) parts.push(formatPercent(prediction.confidence));
    if (prediction.unfamiliar) parts.push(UNFAMILIAR.toLowerCase());
  }
  return parts.join(", ");
}
