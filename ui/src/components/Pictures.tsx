import { useState } from "react";
import type { Model } from "../api";

const meanings: Record<string, string> = {
  "learning-curve": "Learning curve: accuracy, epoch by epoch",
  confusion: "Confusion matrix: which class is taken for which",
  reliability: "Reliability: how often it is right at each confidence",
  mistakes: "Mistakes: test images that it is surest of and wrong about",
};

/** What was drawn of a model when it was published; fetched once somebody asks. */
export function Pictures({ model: { version, pictures } }: { model: Model }) {
  const [open, setOpen] = useState(false);
  if (pictures.length === 0) return null;
  return (
    <details className="pictures" onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary aria-label={`Pictures of ${version}`}>Pictures</summary>
      {open && (
        <ul>
          {pictures.map(({ name, url }) => (
            <Picture key={name} url={url} meaning={meanings[name] ?? name} version={version} />
          ))}
        </ul>
      )}
    </details>
  );
}

function Picture({ url, meaning, version }: { url: string; meaning: string; version: string }) {
  const [missing, setMissing] = useState(false);
  if (missing) return null;
  return (
    <li>
      <a href={url} title="Open it in its full size">
        <img src={url} alt={`${meaning} (${version})`} loading="lazy" onError={() => setMissing(true)} />
      </a>
    </li>
  );
}
