import { memo } from "react";
import type { Prediction } from "../api";
import { formatPercent } from "../format";
import { cancelOrDelete } from "../prediction-requests";
import type { PredictionStore } from "../predictions";
import { isTerminal, statusLabels } from "../status";
import { Age } from "./Age";
import { useAction } from "./action";
import { useFeedback } from "./feedback";
import { type FocusTarget, useFocusHandover } from "./focus";
import { Notice } from "./Notice";
import { UnfamiliarNote } from "./UnfamiliarNote";

type Props = {
  store: PredictionStore;
  prediction: Prediction;
  now: number;
  /** Receives the focus if the removed entry had it. */
  heading: FocusTarget;
};

export const HistoryEntry = memo(function HistoryEntry({ store, prediction, now, heading }: Props) {
  const { filename, status, timestamp, urls } = prediction;
  const ended = isTerminal(prediction);
  const { act, busy, problem } = useAction(async () => {
    if (ended && !window.confirm(`Remove ${filename} and its image from the history?`)) return;
    await cancelOrDelete(store, prediction);
  });
  const { label, choose, problem: feedbackProblem } = useFeedback(store, prediction);
  const entry = useFocusHandover<HTMLLIElement>(heading);
  const verb = ended ? "Remove" : "Cancel";
  return (
    <li ref={entry}>
      <img className="pixels" src={urls.image} alt="" width="40" height="40" loading="lazy" />
      <span className="filename" title={filename}>
        {filename}
      </span>
      <Outcome prediction={prediction} />
      <Age moment={timestamp} now={now} />
      <div className="entry-actions">
        {status === "succeeded" && <FeedbackSelect prediction={prediction} label={label} onChoose={choose} />}
        <button
          type="button"
          className="button quiet"
          aria-label={`${verb} ${filename}`}
          aria-disabled={busy}
          onClick={act}
        >
          {verb}
        </button>
      </div>
      {problem && <Notice problem={problem} />}
      {feedbackProblem && <Notice problem={feedbackProblem} />}
    </li>
  );
});

function Outcome({ prediction }: { prediction: Prediction }) {
  const { status, confidence, unfamiliar, error } = prediction;
  return (
    <span className={`outcome ${status}`}>
      {unfamiliar && <UnfamiliarNote />}
      {unfamiliar && <span className="guess">closest guess</span>}
      {prediction.prediction ?? error?.title ?? statusLabels[status]}
      {status === "succeeded" && confidence !== null && (
        <span className="confidence">{formatPercent(confidence)}</span>
      )}
      {error && <span className="reason">{error.detail}</span>}
    </span>
  );
}

type FeedbackProps = {
  prediction: Prediction;
  label: string | null;
  onChoose: (label: string | null) => void;
};

/** Selects the correct label: one of the model's classes, or a label that was set through the API. */
function FeedbackSelect({ prediction, label, onChoose }: FeedbackProps) {
  const { filename, feedback, probabilities } = prediction;
  const labels = new Set(probabilities.map((one) => one.label).sort());
  if (feedback !== null) labels.add(feedback);
  return (
    <select
      aria-label={`Correct label of ${filename}`}
      className={label === null ? undefined : "chosen"}
      value={label ?? ""}
      onChange={({ target }) => onChoose(target.value || null)}
    >
      <option value="">{label === null ? "Wrong label?" : "Remove correct label"}</option>
      {[...labels].map((one) => (
        <option key={one} value={one}>
          {one}
        </option>
      ))}
    </select>
  );
}
