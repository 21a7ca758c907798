import { memo } from "react";
import type { Epoch } from "../api";
import { drawCurve, HEIGHT, PLOT, WIDTH } from "../curve";
import { formatShare } from "../format";

type Props = { curve: readonly Epoch[]; total: number | null };

export const LearningCurve = memo(function LearningCurve({ curve, total }: Props) {
  const { validation, training, end, accuracies, epochs } = drawCurve(curve, total);
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
        <path className="training-accuracy" d={training} />
        <circle className="training-accuracy" cx={end.x} cy={end.training} r="2.5" />
        <path className="validation-accuracy" d={validation} />
        <circle className="validation-accuracy" cx={end.x} cy={end.validation} r="3.5" />
      </svg>
      <figcaption>
        <span className="key validation-accuracy">
          validation accuracy {formatShare(latest.validation_accuracy)}
        </span>
        <span className="key training-accuracy">training accuracy {formatShare(latest.accuracy)}</span>
      </figcaption>
    </figure>
  );
});

function describe({ number, accuracy, validation_accuracy }: Epoch, total: number | null): string {
  const place = total ? `epoch ${number} of ${total}` : `epoch ${number}`;
  const validation = `validation accuracy ${formatShare(validation_accuracy)}`;
  return `Learning curve after ${place}: ${validation}, training accuracy ${formatShare(accuracy)}`;
}
