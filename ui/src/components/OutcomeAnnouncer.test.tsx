import { cleanup, render } from "@testing-library/react";
import { afterEach, expect, test } from "vitest";
import { ApiProblem, type Prediction } from "../api";
import { makePrediction } from "../prediction.fixture";
import type { Card } from "../predictions";
import type { Stage } from "../upload-list";
import { OutcomeAnnouncer } from "./OutcomeAnnouncer";

afterEach(cleanup);

const accepted: Stage = { at: "accepted", id: "1" };
const refused: Stage = {
  at: "refused",
  problem: new ApiProblem(429, "Too many uploads at once", "Try again."),
};
const succeeded = makePrediction({ status: "succeeded", prediction: "cat", confidence: 0.9712 });

function makeCard(name: string, stage: Stage, prediction?: Prediction): Card {
  return { upload: { key: name, file: new File(["x"], name), preview: "", stage }, prediction };
}

function show(...cards: Card[]) {
  const { container, rerender } = render(<OutcomeAnnouncer cards={cards} />);
  const region = container.querySelector("[aria-live=polite]");
  return {
    announced: () => [...(region?.children ?? [])].map(({ textContent }) => textContent),
    change: (...changed: Card[]) => rerender(<OutcomeAnnouncer cards={changed} />),
  };
}

test("each outcome is announced once, with the name of its file", () => {
  const { announced, change } = show(makeCard("a.png", accepted, makePrediction()));
  expect(announced()).toEqual([]);
  const a = makeCard("a.png", accepted, succeeded);
  change(a, makeCard("b.png", { at: "waiting" }));
  expect(announced()).toEqual(["a.png: cat, 97.1%"]);
  change(a, makeCard("b.png", refused));
  expect(announced()).toEqual(["b.png: Too many uploads at once"]);
});

test("the announcement says that an image is unfamiliar", () => {
  const { announced } = show(makeCard("a.png", accepted, { ...succeeded, unfamiliar: true }));
  expect(announced()).toEqual(["a.png: cat, 97.1%, looks like none of the model's classes"]);
});

test("an upload that is retried and refused again is announced again", () => {
  const { announced, change } = show(makeCard("a.png", refused));
  change(makeCard("a.png", { at: "waiting" }));
  expect(announced()).toEqual([]);
  change(makeCard("a.png", refused));
  expect(announced()).toEqual(["a.png: Too many uploads at once"]);
});
