import { useState } from "react";
import type { Model } from "../api";

const descriptions: Record<string, string> = {
  "learning-curve": "Learning curve: accuracy after each epoch",
  confusion: "Confusion matrix: true and predicted classes",
  reliability: "Reliability diagram: accuracy at each confidence",
  mistakes: "Mistakes: wrong predictions with the highest confidence",
};

/** The pictures of a model. They are fetched when the user opens this part. */
export function Pictures({ model: { version, pictures } }: { model: Model }) {
  const [open, setOpen] = useState(false);
  if (pictures.length === 0) return null;
  return (
    <details className="pictures" onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary aria-label={`Pictures of ${version}`}>Pictures</summary>
      {open && (
        <ul>
          {pictures.map(({ name, url }) => (
            <Picture key={name} url={url} description={descriptions[name] ?? name} version={version} />
          ))}
        </ul>
      )}
    </details>
  );
}

function Picture({ url, description, version }: { url: string; description: string; version: string }) {
  const [missing, setMissing] = useState(false);
  if (missing) return null;
  return (
    <li>
      <a href={url} title="Open at full size">
        <img src={url} alt={`${description} (${version})`} loading="lazy" onError={() => setMissing(true)} />
      </a>
    </li>
  );
}
