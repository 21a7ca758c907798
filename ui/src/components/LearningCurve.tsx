import { memo } from "react";
import type { Epoch } from "../api";
import { drawCurve, HEIGHT, PLOT, WIDTH } from "../curve";
import { formatShare } from "../format";

type Props = { curve: readonly Epoch[]; total: number | null };

export const LearningCurve = memo(function LearningCurve({ curve, total }: Props) {
  const { heldOut, training, end, accuracies, epochs } = drawCurve(curve, total);
  const latest = curve.at(-1);
  if (!latest || !end) return null;
  return (
    <figure className="curve">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={describe(latest, total)}>
        {accuracies.map(({ at, label }) => (
          <g key={label}>
            <line className="grid" x1={PLOT.left} x2={PLOT.right} y1={at} y2={at} />
            <text x={PLOT.left - 6} y={at + 4} textAnchor="end">
              {label}
            </text>
          </g>
        ))}
        {epochs.map(({ at, label }) => (
          <text key={label} x={at} y={HEIGHT - 8} textAnchor="middle">
            {label}
          </text>
        ))}
        <text x={(PLOT.left + PLOT.right) / 2} y={HEIGHT - 8} textAnchor="middle">
          epoch
        </text>
        <path className="seen" d={training} />
        <circle className="seen" cx={end.x} cy={end.training} r="2.5" />
        <path className="held-out" d={heldOut} />
        <circle className="held-out" cx={end.x} cy={end.heldOut} r="3.5" />
      </svg>
      <figcaption>
        <span className="key held-out">held out {formatShare(latest.validation_accuracy)}</span>
        <span className="key seen">trained on {formatShare(latest.accuracy)}</span>
      </figcaption>
    </figure>
  );
});

function describe({ number, accuracy, validation_accuracy }: Epoch, total: number | null): string {
  const place = total ? `epoch ${number} of ${total}` : `epoch ${number}`;
  const shares = `${formatShare(validation_accuracy)} held out, ${formatShare(accuracy)} trained on`;
  return `Learning curve: accuracy after ${place}, ${shares}`;
}
