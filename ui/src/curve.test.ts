import { expect, test } from "vitest";
import { drawCurve, PLOT } from "./curve";
import { makeEpoch } from "./training.fixture";

const curve = [
  makeEpoch(1, { accuracy: 0.42, validation_accuracy: 0.5 }),
  makeEpoch(2, { accuracy: 0.6, validation_accuracy: 0.7 }),
  makeEpoch(3, { accuracy: 0.7, validation_accuracy: 1 }),
];

test("the lines go from the left edge towards where the last epoch will be", () => {
  const { end, epochs } = drawCurve(curve, 5);
  expect(end).toMatchObject({ x: (PLOT.left + PLOT.right) / 2, heldOut: PLOT.top });
  expect(epochs).toEqual([
    { at: PLOT.left, label: "1" },
    { at: PLOT.right, label: "5" },
  ]);
});

test("the plane begins at the tenth below the lowest accuracy", () => {
  const { accuracies, heldOut, training } = drawCurve(curve, 3);
  expect(accuracies.map(({ label }) => label)).toEqual(["40%", "70%", "100%"]);
  expect(heldOut).toBe("M40 130.8L195 82.5L350 10");
  expect(training).toBe("M40 150.2L195 106.7L350 82.5");
});

test("one epoch of one is a point at the left edge", () => {
  const { heldOut, end } = drawCurve([makeEpoch(1)], 1);
  expect(heldOut).toMatch(/^M40 [\d.]+$/);
  expect(end?.x).toBe(PLOT.left);
});

test("without an epoch there is a plane and no line", () => {
  const { heldOut, end, accuracies } = drawCurve([], null);
  expect([heldOut, end]).toEqual(["", null]);
  expect(accuracies.map(({ label }) => label)).toEqual(["90%", "95%", "100%"]);
});

test("more epochs than were announced still fit", () => {
  expect(drawCurve(curve, 2).end?.x).toBe(PLOT.right);
});
