import { expect, test } from "vitest";
import { estimateSecondsLeft, formatSpan } from "./format";
import { makeEpoch } from "./training.fixture";

test.each([
  [0, "0 s"],
  [59.6, "1 min 0 s"],
  [200, "3 min 20 s"],
  [3900, "1 h 5 min"],
])("%d seconds are %s", (seconds, words) => {
  expect(formatSpan(seconds)).toBe(words);
});

test("the time left runs down from the latest epoch, whatever the clocks say", () => {
  const epoch = makeEpoch(1, { seconds_left: 60 });
  const at = Date.parse(epoch.timestamp);
  expect(estimateSecondsLeft(epoch, at + 20_000)).toBe(40);
  expect(estimateSecondsLeft(epoch, at - 20_000)).toBe(60);
  expect(estimateSecondsLeft(epoch, at + 90_000)).toBe(0);
});
