import { memo, useEffect, useState } from "react";
import type { Prediction } from "../api";
import { formatAge, formatMoment, formatPercent } from "../format";
import { readNewest, readOlder } from "../history";
import type { PredictionStore, Snapshot } from "../predictions";

const MINUTE_MS = 60_000;

export function HistoryList({ store, snapshot }: { store: PredictionStore; snapshot: Snapshot }) {
  const { history, hasOlder, historyRead, historyProblem } = snapshot;
  const now = useNow();
  return (
    <section aria-labelledby="history-title">
      <div className="section-title">
        <h2 id="history-title">History</h2>
      </div>
      {historyProblem && (
        <div className="notice" role="alert">
          <p>
            <strong>{historyProblem.title}.</strong> {historyProblem.detail}
          </p>
          <button type="button" className="button" onClick={() => readNewest(store)}>
            Try again
          </button>
        </div>
      )}
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
  const { filename, status, confidence, timestamp, urls, error } = prediction;
  return (
    <li>
      <img className="pixels" src={urls.image} alt="" width="40" height="40" loading="lazy" />
      <span className="filename" title={filename}>
        {filename}
      </span>
      <span className={`outcome ${status}`} title={error ? `${error.title}. ${error.detail}` : undefined}>
        {status === "succeeded" ? prediction.prediction : status}
        {status === "succeeded" && confidence !== null && (
          <span className="confidence">{formatPercent(confidence)}</span>
        )}
      </span>
      <time dateTime={timestamp} title={formatMoment(timestamp)}>
        {age}
      </time>
    </li>
  );
});

function useNow(): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), MINUTE_MS / 2);
    return () => clearInterval(timer);
  }, []);
  return now;
}
