import type { Prediction } from "../api";
import { formatPercent } from "../format";

const places = [1, 2, 3, 4, 5];
export const TOP = places.length;

/** The most probable classes. Empty bars reserve the space until the probabilities are known. */
export function ConfidenceBars({ probabilities }: Pick<Prediction, "probabilities">) {
  if (probabilities.length === 0) {
    return (
      <div className="bars empty" aria-hidden="true">
        {places.map((place) => (
          <span className="bar" key={place} />
        ))}
      </div>
    );
  }
  return (
    <ul className="bars" aria-label="Most probable classes">
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
