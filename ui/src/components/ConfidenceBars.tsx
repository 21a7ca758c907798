import type { Prediction } from "../api";
import { formatPercent } from "../format";

export const TOP = 5;

/** The most probable labels; empty bars hold the place until they are known. */
export function ConfidenceBars({ probabilities }: Pick<Prediction, "probabilities">) {
  if (probabilities.length === 0) {
    return (
      <div className="bars empty" aria-hidden="true">
        {["a", "b", "c", "d", "e"].map((row) => (
          <span className="bar" key={row} />
        ))}
      </div>
    );
  }
  return (
    <ul className="bars" aria-label="Most probable labels">
      {probabilities.slice(0, TOP).map(({ label, probability }) => (
        <li key={label}>
          <span className="bar-label">{label}</span>
          <span className="bar" aria-hidden="true">
            <span style={{ transform: `scaleX(${probability})` }} />
          </span>
          <span className="bar-percent">{formatPercent(probability)}</span>
        </li>
      ))}
    </ul>
  );
}
