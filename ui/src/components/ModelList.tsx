import { useRef, useState } from "react";
import { refreshModels } from "../model-requests";
import type { ModelStore, ModelsSnapshot } from "../models";
import { ModelEntry } from "./ModelEntry";
import { Notice } from "./Notice";
import { useNow } from "./now";
import { SectionTitle } from "./SectionTitle";

const FIRST = 6; // models shown at first: more would push the training form far down on a phone

export function ModelList({ store, snapshot }: { store: ModelStore; snapshot: ModelsSnapshot }) {
  const { models, read, problem } = snapshot;
  const [all, setAll] = useState(false);
  const heading = useRef<HTMLHeadingElement>(null);
  const now = useNow(30_000);
  const shown = models.filter(({ active }, place) => all || place < FIRST || active);
  return (
    <section aria-labelledby="models-title">
      <SectionTitle id="models-title" title="Models" heading={heading} />
      {problem && (
        <Notice problem={problem} retry={{ act: () => refreshModels(store), nextFocus: heading }} />
      )}
      {read && models.length === 0 && (
        <p className="empty-state">
          No models yet. A model appears here after a worker has found and checked it.
        </p>
      )}
      <ul className="models" aria-busy={!read}>
        {shown.map((model) => (
          <li key={model.version}>
            <ModelEntry store={store} model={model} now={now} />
          </li>
        ))}
      </ul>
      {shown.length < models.length && (
        <button type="button" className="button show-more" onClick={() => setAll(true)}>
          Show all {models.length} models
        </button>
      )}
    </section>
  );
}
