import { memo, useRef } from "react";
import type { Prediction } from "../api";
import { describeMetrics, formatPercent } from "../format";
import type { Stage, Upload } from "../upload-list";
import { ConfidenceBars, TOP } from "./ConfidenceBars";
import type { FocusTarget } from "./focus";
import { Thumbnail } from "./Thumbnail";
import { TransientButton } from "./TransientButton";
import { UnfamiliarNote } from "./UnfamiliarNote";
import { describeUpload } from "./upload-status";

type Props = {
  upload: Upload;
  prediction: Prediction | undefined;
  /** The file input. It gets the focus when "Dismiss" removes the card. */
  chooser: FocusTarget;
  onRetry: (upload: Upload) => void;
  onDismiss: (upload: Upload) => void;
};

/** One upload, from waiting to its outcome. Its minimum height has room for every stage. */
export const UploadCard = memo(function UploadCard(props: Props) {
  const { upload, prediction } = props;
  const { file, preview, stage } = upload;
  const { headline, tone } = describeUpload(stage, prediction);
  const card = useRef<HTMLElement>(null);
  return (
    <article className={`card ${tone}`} aria-label={file.name} ref={card} tabIndex={-1}>
      <Thumbnail
        preview={preview}
        image={prediction?.status === "succeeded" ? prediction.urls.image : null}
      />
      <div className="card-text">
        <p className="filename" title={file.name}>
          {file.name}
        </p>
        <p className="headline">
          {prediction?.unfamiliar && <span className="guess">Closest guess</span>}
          {headline}
          {prediction?.status === "succeeded" && prediction.confidence !== null && (
            <span className="confidence">{formatPercent(prediction.confidence)}</span>
          )}
          {prediction?.unfamiliar && <UnfamiliarNote />}
        </p>
        <Body {...props} card={card} />
      </div>
      <p className="small-print">
        {describeSmallPrint(stage, prediction).map((part) => (
          <span key={part}>{part}</span>
        ))}
      </p>
    </article>
  );
});

function Body({ upload, prediction, card, chooser, onRetry, onDismiss }: Props & { card: FocusTarget }) {
  const { file, stage } = upload;
  if (stage.at === "refused") {
    const { detail, retryable } = stage.problem;
    return (
      <>
        <p className="detail">{detail}</p>
        {retryable && (
          <div className="card-actions">
            <TransientButton nextFocus={card} onClick={() => onRetry(upload)}>
              Try again
            </TransientButton>
            <TransientButton className="button quiet" nextFocus={chooser} onClick={() => onDismiss(upload)}>
              Dismiss
            </TransientButton>
          </div>
        )}
      </>
    );
  }
  if (prediction?.error) return <p className="detail">{prediction.error.detail}</p>;
  if (prediction?.status === "canceled") return <p className="detail">A user canceled this prediction.</p>;
  if (prediction?.status === "succeeded") {
    // The note on an unfamiliar image replaces the last bar, so that the height stays the same.
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
  return stage.at === "refused" && stage.problem.requestId ? [`request ID ${stage.problem.requestId}`] : [];
}
