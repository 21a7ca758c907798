import { useRef } from "react";
import { formatAge } from "../format";
import { catchUp, readOlder } from "../history";
import type { PredictionStore, Snapshot } from "../predictions";
import { HistoryEntry } from "./HistoryEntry";
import { Notice } from "./Notice";
import { useNow } from "./now";

export function HistoryList({ store, snapshot }: { store: PredictionStore; snapshot: Snapshot }) {
  const { history, hasOlder, historyRead, historyProblems } = snapshot;
  const { newest, older } = historyProblems;
  const heading = useRef<HTMLHeadingElement>(null);
  const now = useNow(30_000);
  return (
    <section aria-labelledby="history-title">
      <div className="section-title">
        <h2 id="history-title" ref={heading} tabIndex={-1}>
          History
        </h2>
        {history.length > 0 && (
          <a className="button quiet" href="/api/predictions?format=csv" download>
            Download as CSV
          </a>
        )}
      </div>
      {newest && <Notice problem={newest} again={{ ask: () => catchUp(store), heir: heading }} />}
      {historyRead && history.length === 0 && !hasOlder && (
        <p className="nothing">Nothing yet. Every prediction shows here.</p>
      )}
      <ol className="history" aria-busy={!historyRead}>
        {history.map((prediction) => (
          <HistoryEntry
            key={prediction.id}
            store={store}
            prediction={prediction}
            age={formatAge(prediction.timestamp, now)}
            heading={heading}
          />
        ))}
      </ol>
      {older && <Notice problem={older} />}
      {hasOlder && (
        <button type="button" className="button older" onClick={() => readOlder(store)}>
          Show older
        </button>
      )}
    </section>
  );
}
