/** Computes the coordinates of a learning curve in a drawing of WIDTH x HEIGHT. Does not depend on React. */
import type { Epoch } from "./api";

export const WIDTH = 360;
export const HEIGHT = 180;
export const PLOT = { left: 40, right: 350, top: 10, bottom: 155 };

export type Tick = { at: number; label: string };

export type Drawing = {
  validation: string; // SVG path
  training: string; // SVG path
  end: { x: number; validation: number; training: number } | null; // coordinates of the latest epoch
  accuracies: readonly Tick[];
  epochs: readonly Tick[];
};

/** `total` is the planned number of epochs, if known. The x axis ends at the largest of `total`, the latest epoch and 2. */
export function drawCurve(curve: readonly Epoch[], total: number | null): Drawing {
  const values = curve.flatMap(({ accuracy, validation_accuracy }) => [accuracy, validation_accuracy]);
  const floor = Math.min(0.9, Math.max(0, Math.floor(Math.min(...values, 1) * 10) / 10));
  const latest = curve.at(-1);
  const last = Math.max(total ?? 0, latest?.number ?? 0, 2);
  const x = (number: number) => place((number - 1) / (last - 1), PLOT.left, PLOT.right);
  const y = (accuracy: number) => place((accuracy - floor) / (1 - floor), PLOT.bottom, PLOT.top);
  const line = (measure: (epoch: Epoch) => number) =>
    curve.map((epoch, step) => `${step === 0 ? "M" : "L"}${x(epoch.number)} ${y(measure(epoch))}`).join("");
  return {
    validation: line((epoch) => epoch.validation_accuracy),
    training: line((epoch) => epoch.accuracy),
    end: latest
      ? { x: x(latest.number), validation: y(latest.validation_accuracy), training: y(latest.accuracy) }
      : null,
    accuracies: [floor, (floor + 1) / 2, 1].map((accuracy) => ({
      at: y(accuracy),
      label: `${Math.round(accuracy * 100)}%`,
    })),
    epochs: [1, last].map((number) => ({ at: x(number), label: String(number) })),
  };
}

function place(fraction: number, from: number, to: number): number {
  return Math.round((from + fraction * (to - from)) * 10) / 10;
}
