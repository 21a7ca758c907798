import { memo, useRef } from "react";
import type { Prediction } from "../api";
import { describeMetrics, formatPercent } from "../format";
import type { Stage, Upload } from "../upload-list";
import { ConfidenceBars, TOP } from "./ConfidenceBars";
import type { Place } from "./focus";
import { describeStage } from "./headline";
import { PassingButton } from "./PassingButton";
import { Thumbnail } from "./Thumbnail";
import { Unfamiliar } from "./Unfamiliar";

type Props = {
  upload: Upload;
  prediction: Prediction | undefined;
  /** Gets the focus when the card goes. */
  chooser: Place;
  onTryAgain: (upload: Upload) => void;
  onDismiss: (upload: Upload) => void;
};

/** One upload, from the first byte to its label. Its height is the same all the way. */
export const UploadCard = memo(function UploadCard(props: Props) {
  const { upload, prediction } = props;
  const { file, preview, stage } = upload;
  const { words, tone } = describeStage(stage, prediction);
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
          {words}
          {prediction?.status === "succeeded" && prediction.confidence !== null && (
            <span className="confidence">{formatPercent(prediction.confidence)}</span>
          )}
          {prediction?.unfamiliar && <Unfamiliar />}
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

function Body({ upload, prediction, card, chooser, onTryAgain, onDismiss }: Props & { card: Place }) {
  const { file, stage } = upload;
  if (stage.at === "refused") {
    const { detail, passes } = stage.problem;
    return (
      <>
        <p className="detail">{detail}</p>
        {passes && (
          <div className="card-actions">
            <PassingButton heir={card} onClick={() => onTryAgain(upload)}>
              Try again
            </PassingButton>
            <PassingButton className="button quiet" heir={chooser} onClick={() => onDismiss(upload)}>
              Dismiss
            </PassingButton>
          </div>
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
