import { expect, test } from "vitest";
import { drawCurve, PLOT } from "./curve";
import { makeEpoch } from "./training.fixture";

const curve = [
  makeEpoch(1, { accuracy: 0.42, validation_accuracy: 0.5 }),
  makeEpoch(2, { accuracy: 0.6, validation_accuracy: 0.7 }),
  makeEpoch(3, { accuracy: 0.7, validation_accuracy: 1 }),
];

test("the x axis ends at the last epoch that the run will have", () => {
  const { end, epochs } = drawCurve(curve, 5);
  expect(end).toMatchObject({ x: (PLOT.left + PLOT.right) / 2, validation: PLOT.top });
  expect(epochs).toEqual([
    { at: PLOT.left, label: "1" },
    { at: PLOT.right, label: "5" },
  ]);
});

test("the y axis starts at the next multiple of 10% below the lowest accuracy", () => {
  const { accuracies, validation, training } = drawCurve(curve, 3);
  expect(accuracies.map(({ label }) => label)).toEqual(["40%", "70%", "100%"]);
  expect(validation).toBe("M40 130.8L195 82.5L350 10");
  expect(training).toBe("M40 150.2L195 106.7L350 82.5");
});

test("a run of one epoch is a point at the left edge", () => {
  const { validation, end } = drawCurve([makeEpoch(1)], 1);
  expect(validation).toMatch(/^M40 [\d.]+$/);
  expect(end?.x).toBe(PLOT.left);
});

test("without epochs there are axes and no line", () => {
  const { validation, end, accuracies } = drawCurve([], null);
  expect([validation, end]).toEqual(["", null]);
  expect(accuracies.map(({ label }) => label)).toEqual(["90%", "95%", "100%"]);
});

test("more epochs than expected fit into the drawing", () => {
  expect(drawCurve(curve, 2).end?.x).toBe(PLOT.right);
});
