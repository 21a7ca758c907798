import { memo } from "react";
import type { Prediction } from "../api";
import { describeMetrics, formatPercent } from "../format";
import type { Stage, Upload } from "../predictions";
import { ConfidenceBars, TOP } from "./ConfidenceBars";
import { Thumbnail } from "./Thumbnail";
import { Unfamiliar } from "./Unfamiliar";

type Props = {
  upload: Upload;
  prediction: Prediction | undefined;
  onTryAgain: (upload: Upload) => void;
};

/** One upload, from the first byte to its label. Its height is the same all the way. */
export const UploadCard = memo(function UploadCard({ upload, prediction, onTryAgain }: Props) {
  const { file, preview, stage } = upload;
  const { words, tone } = describe(stage, prediction);
  return (
    <article className={`card ${tone}`} aria-label={file.name}>
      <Thumbnail
        preview={preview}
        image={prediction?.status === "succeeded" ? prediction.urls.image : null}
      />
      <div className="card-text">
        <p className="filename" title={file.name}>
          {file.name}
        </p>
        <p className="headline" aria-live="polite">
          {prediction?.unfamiliar && <span className="guess">Closest guess</span>}
          {words}
          {prediction?.status === "succeeded" && prediction.confidence !== null && (
            <span className="confidence">{formatPercent(prediction.confidence)}</span>
          )}
          {prediction?.unfamiliar && <Unfamiliar />}
        </p>
        <Body upload={upload} prediction={prediction} onTryAgain={onTryAgain} />
      </div>
      <p className="small-print">
        {describeSmallPrint(stage, prediction).map((part) => (
          <span key={part}>{part}</span>
        ))}
      </p>
    </article>
  );
});

function Body({ upload, prediction, onTryAgain }: Props) {
  const { file, stage } = upload;
  if (stage.at === "refused") {
    const { detail, passes } = stage.problem;
    return (
      <>
        <p className="detail">{detail}</p>
        {passes && (
          <button type="button" className="button" onClick={() => onTryAgain(upload)}>
            Try again
          </button>
        )}
      </>
    );
  }
  if (prediction?.error) return <p className="detail">{prediction.error.detail}</p>;
  if (prediction?.status === "canceled") return <p className="detail">It was withdrawn.</p>;
  if (prediction?.status === "succeeded") {
    // What is said of an unfamiliar image takes the place of its last bar, so that the height stays.
    const { probabilities, unfamiliar } = prediction;
    return <ConfidenceBars probabilities={unfamiliar ? probabilities.slice(0, TOP - 1) : probabilities} />;
  }
  if (stage.at === "sending") {
    return <progress max={1} value={stage.fraction} aria-label={`Uploading ${file.name}`} />;
  }
  return <ConfidenceBars probabilities={[]} />;
}

function describeSmallPrint(stage: Stage, prediction: Prediction | undefined): string[] {
  if (prediction) return describeMetrics(prediction);
  return stage.at === "refused" && stage.problem.requestId ? [`request ${stage.problem.requestId}`] : [];
}

type Tone = "pending" | "running" | "succeeded" | "refused";

function describe(stage: Stage, prediction: Prediction | undefined): { words: string; tone: Tone } {
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
