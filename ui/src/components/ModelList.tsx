import { useRef, useState } from "react";
import { refreshModels } from "../model-requests";
import type { ModelStore, ModelsSnapshot } from "../models";
import { ModelEntry } from "./ModelEntry";
import { Notice } from "./Notice";
import { useNow } from "./now";

const FIRST = 6; // so that training stays in reach on a phone

export function ModelList({ store, snapshot }: { store: ModelStore; snapshot: ModelsSnapshot }) {
  const { models, read, problem } = snapshot;
  const [all, setAll] = useState(false);
  const heading = useRef<HTMLHeadingElement>(null);
  const now = useNow(30_000);
  const shown = models.filter(({ active }, place) => all || place < FIRST || active);
  return (
    <section aria-labelledby="models-title">
      <div className="section-title">
        <h2 id="models-title" ref={heading} tabIndex={-1}>
          Models
        </h2>
      </div>
      {problem && <Notice problem={problem} again={{ ask: () => refreshModels(store), heir: heading }} />}
      {read && models.length === 0 && (
        <p className="nothing">None yet. A model shows here once a worker has found and checked it.</p>
      )}
      <ul className="models" aria-busy={!read}>
        {shown.map((model) => (
          <li key={model.version}>
            <ModelEntry store={store} model={model} now={now} />
          </li>
        ))}
      </ul>
      {shown.length < models.length && (
        <button type="button" className="button older" onClick={() => setAll(true)}>
          Show all {models.length}
        </button>
      )}
    </section>
  );
}
