import { memo } from "react";
import type { Prediction } from "../api";
import { formatAge, formatMoment, formatPercent } from "../format";
import { readNewest, readOlder } from "../history";
import type { PredictionStore, Snapshot } from "../predictions";
import { Notice } from "./Notice";
import { useNow } from "./now";
import { Unfamiliar } from "./Unfamiliar";

export function HistoryList({ store, snapshot }: { store: PredictionStore; snapshot: Snapshot }) {
  const { history, hasOlder, historyRead, historyProblem } = snapshot;
  const now = useNow(30_000);
  return (
    <section aria-labelledby="history-title">
      <div className="section-title">
        <h2 id="history-title">History</h2>
      </div>
      {historyProblem && <Notice problem={historyProblem} onTryAgain={() => readNewest(store)} />}
      {historyRead && history.length === 0 && (
        <p className="nothing">Nothing yet. Every prediction shows here.</p>
      )}
      <ol className="history" aria-busy={!historyRead}>
        {history.map((prediction) => (
          <Entry key={prediction.id} prediction={prediction} age={formatAge(prediction.timestamp, now)} />
        ))}
      </ol>
      {hasOlder && (
        <button type="button" className="button older" onClick={() => readOlder(store)}>
          Show older
        </button>
      )}
    </section>
  );
}

const Entry = memo(function Entry({ prediction, age }: { prediction: Prediction; age: string }) {
  const { filename, status, confidence, timestamp, unfamiliar, urls, error } = prediction;
  return (
    <li>
      <img className="pixels" src={urls.image} alt="" width="40" height="40" loading="lazy" />
      <span className="filename" title={filename}>
        {filename}
      </span>
      <span className={`outcome ${status}`}>
        {unfamiliar && <Unfamiliar />}
        {unfamiliar && <span className="guess">closest guess</span>}
        {status === "succeeded" ? prediction.prediction : (error?.title ?? status)}
        {status === "succeeded" && confidence !== null && (
          <span className="confidence">{formatPercent(confidence)}</span>
        )}
        {error && <span className="reason">{error.detail}</span>}
      </span>
      <time dateTime={timestamp} title={formatMoment(timestamp)}>
        {age}
      </time>
    </li>
  );
});
