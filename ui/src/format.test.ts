import { expect, test } from "vitest";
import { estimateSecondsLeft, formatAge, formatPercent, formatSpan } from "./format";
import { makeEpoch } from "./training.fixture";

const HOUR = 3_600_000;

test.each([
  [0, "0 s"],
  [59.6, "1 min 0 s"],
  [200, "3 min 20 s"],
  [3900, "1 h 5 min"],
])("%d seconds are shown as %s", (seconds, words) => {
  expect(formatSpan(seconds)).toBe(words);
});

test.each([
  [-5000, "just now"], // the clocks differ
  [59_000, "just now"],
  [60_000, "1 minute ago"],
  [3_599_000, "59 minutes ago"],
  [23 * HOUR, "23 hours ago"],
  [25 * HOUR, "1 day ago"],
  [47 * HOUR, "1 day ago"], // "yesterday" would be wrong
  [49 * HOUR, "2 days ago"],
])("an age of %d ms is shown as %s", (age, words) => {
  const moment = "2026-11-24T08:15:30.123Z";
  expect(formatAge(moment, Date.parse(moment) + age)).toBe(words);
});

test.each([
  [1, "99.9%"],
  [0.9996, "99.9%"],
  [0.9712, "97.1%"],
  [0.001, "0.1%"],
  [0.0009, "<0.1%"],
  [0, "<0.1%"],
])("a confidence of %d is shown as %s", (fraction, words) => {
  expect(formatPercent(fraction)).toBe(words);
});

test("the time left counts down from the latest epoch, and does not rise if the clocks differ", () => {
  const epoch = makeEpoch(1, { seconds_left: 60 });
  const at = Date.parse(epoch.timestamp);
  expect(estimateSecondsLeft(epoch, at + 20_000)).toBe(40);
  expect(estimateSecondsLeft(epoch, at - 20_000)).toBe(60);
  expect(estimateSecondsLeft(epoch, at + 90_000)).toBe(0);
});
