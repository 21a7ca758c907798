import { memo, type RefObject, useState } from "react";
import { type ApiProblem, asProblem, type Prediction } from "../api";
import { formatMoment, formatPercent } from "../format";
import { correct, withdraw } from "../history";
import { isTerminal, type PredictionStore } from "../predictions";
import { useAction } from "./action";
import { Notice } from "./Notice";
import { Unfamiliar } from "./Unfamiliar";

type Props = {
  store: PredictionStore;
  prediction: Prediction;
  age: string;
  /** Gets the focus when the entry, and with it the button that had it, is gone. */
  heading: RefObject<HTMLHeadingElement | null>;
};

export const HistoryEntry = memo(function HistoryEntry({ store, prediction, age, heading }: Props) {
  const { filename, status, timestamp, urls } = prediction;
  const ended = isTerminal(prediction);
  const { act, busy, problem } = useAction(async () => {
    if (ended && !window.confirm(`Remove ${filename} and its image from the history?`)) return;
    await withdraw(store, prediction);
    if (ended) heading.current?.focus({ preventScroll: true });
  });
  const [notCorrected, setNotCorrected] = useState<ApiProblem | null>(null);
  const choose = (label: string | null) =>
    correct(store, prediction, label).then(
      () => setNotCorrected(null),
      (error) => setNotCorrected(asProblem(error)),
    );
  const verb = ended ? "Remove" : "Cancel";
  return (
    <li>
      <img className="pixels" src={urls.image} alt="" width="40" height="40" loading="lazy" />
      <span className="filename" title={filename}>
        {filename}
      </span>
      <Outcome prediction={prediction} />
      <time dateTime={timestamp} title={formatMoment(timestamp)}>
        {age}
      </time>
      <div className="entry-actions">
        {status === "succeeded" && <Correction prediction={prediction} onChoose={choose} />}
        <button
          type="button"
          className="button quiet"
          aria-label={`${verb} ${filename}`}
          disabled={busy}
          onClick={act}
        >
          {verb}
        </button>
      </div>
      {problem && <Notice problem={problem} />}
      {notCorrected && <Notice problem={notCorrected} />}
    </li>
  );
});

function Outcome({ prediction }: { prediction: Prediction }) {
  const { status, confidence, unfamiliar, error } = prediction;
  return (
    <span className={`outcome ${status}`}>
      {unfamiliar && <Unfamiliar />}
      {unfamiliar && <span className="guess">closest guess</span>}
      {status === "succeeded" ? prediction.prediction : (error?.title ?? status)}
      {status === "succeeded" && confidence !== null && (
        <span className="confidence">{formatPercent(confidence)}</span>
      )}
      {error && <span className="reason">{error.detail}</span>}
    </span>
  );
}

type CorrectionProps = { prediction: Prediction; onChoose: (label: string | null) => void };

/** Which label a person says is right: one of the model's, or what was said over the API. */
function Correction({ prediction, onChoose }: CorrectionProps) {
  const { filename, feedback, probabilities } = prediction;
  const labels = new Set(probabilities.map(({ label }) => label).sort());
  if (feedback !== null) labels.add(feedback);
  return (
    <select
      aria-label={`Right label of ${filename}`}
      className={feedback === null ? undefined : "chosen"}
      value={feedback ?? ""}
      onChange={({ target }) => onChoose(target.value || null)}
    >
      <option value="">{feedback === null ? "Wrong?" : "Take it back"}</option>
      {[...labels].map((label) => (
        <option key={label} value={label}>
          {label}
        </option>
      ))}
    </select>
  );
}
