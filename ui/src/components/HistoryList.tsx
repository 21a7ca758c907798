import { useRef } from "react";
import { catchUp, readOlder } from "../prediction-requests";
import type { PredictionStore, Snapshot } from "../predictions";
import { HistoryEntry } from "./HistoryEntry";
import { Notice } from "./Notice";
import { useNow } from "./now";
import { SectionTitle } from "./SectionTitle";

export function HistoryList({ store, snapshot }: { store: PredictionStore; snapshot: Snapshot }) {
  const { history, hasOlder, historyRead, historyProblems } = snapshot;
  const { newest, older } = historyProblems;
  const heading = useRef<HTMLHeadingElement>(null);
  const now = useNow(30_000);
  return (
    <section aria-labelledby="history-title">
      <SectionTitle id="history-title" title="History" heading={heading}>
        {history.length > 0 && (
          <a className="button quiet" href="/api/predictions?format=csv" download>
            Download as CSV
          </a>
        )}
      </SectionTitle>
      {newest && <Notice problem={newest} retry={{ act: () => catchUp(store), nextFocus: heading }} />}
      {historyRead && history.length === 0 && !hasOlder && (
        <p className="empty-state">No predictions yet. Upload an image to make the first one.</p>
      )}
      <ol className="history" aria-busy={!historyRead}>
        {history.map((prediction) => (
          <HistoryEntry
            key={prediction.id}
            store={store}
            prediction={prediction}
            now={now}
            heading={heading}
          />
        ))}
      </ol>
      {older && <Notice problem={older} />}
      {hasOlder && (
        <button type="button" className="button show-more" onClick={() => readOlder(store)}>
          Show older
        </button>
      )}
    </section>
  );
}
