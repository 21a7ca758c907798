import { memo } from "react";
import type { Prediction } from "../api";
import { formatMoment, formatPercent } from "../format";
import { withdraw } from "../history";
import type { PredictionStore } from "../predictions";
import { isTerminal } from "../status";
import { useAction } from "./action";
import { useCorrections } from "./correction";
import { type Place, useHeir } from "./focus";
import { Notice } from "./Notice";
import { Unfamiliar } from "./Unfamiliar";

type Props = {
  store: PredictionStore;
  prediction: Prediction;
  age: string;
  /** Gets the focus when the entry, and with it what had the focus, is gone. */
  heading: Place;
};

export const HistoryEntry = memo(function HistoryEntry({ store, prediction, age, heading }: Props) {
  const { filename, status, timestamp, urls } = prediction;
  const ended = isTerminal(prediction);
  const { act, busy, problem } = useAction(async () => {
    if (ended && !window.confirm(`Remove ${filename} and its image from the history?`)) return;
    await withdraw(store, prediction);
  });
  const { label, choose, problem: notCorrected } = useCorrections(store, prediction);
  const entry = useHeir<HTMLLIElement>(heading);
  const verb = ended ? "Remove" : "Cancel";
  return (
    <li ref={entry}>
      <img className="pixels" src={urls.image} alt="" width="40" height="40" loading="lazy" />
      <span className="filename" title={filename}>
        {filename}
      </span>
      <Outcome prediction={prediction} />
      <time dateTime={timestamp} title={formatMoment(timestamp)}>
        {age}
      </time>
      <div className="entry-actions">
        {status === "succeeded" && <Correction prediction={prediction} label={label} onChoose={choose} />}
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

type CorrectionProps = {
  prediction: Prediction;
  label: string | null;
  onChoose: (label: string | null) => void;
};

/** Which label a person says is right: one of the model's, or what was said over the API. */
function Correction({ prediction, label, onChoose }: CorrectionProps) {
  const { filename, feedback, probabilities } = prediction;
  const labels = new Set(probabilities.map((one) => one.label).sort());
  if (feedback !== null) labels.add(feedback);
  return (
    <select
      aria-label={`Right label of ${filename}`}
      className={label === null ? undefined : "chosen"}
      value={label ?? ""}
      onChange={({ target }) => onChoose(target.value || null)}
    >
      <option value="">{label === null ? "Wrong?" : "Take it back"}</option>
      {[...labels].map((one) => (
        <option key={one} value={one}>
          {one}
        </option>
      ))}
    </select>
  );
}
