import { cleanup, render } from "@testing-library/react";
import { afterEach, expect, test } from "vitest";
import { ApiProblem, type Prediction } from "../api";
import { makePrediction } from "../prediction.fixture";
import type { Card } from "../predictions";
import type { Stage } from "../upload-list";
import { Outcomes } from "./Outcomes";

afterEach(cleanup);

const accepted: Stage = { at: "accepted", id: "1" };
const refused: Stage = { at: "refused", problem: new ApiProblem(429, "Too many wait", "Try again.") };
const succeeded = makePrediction({ status: "succeeded", prediction: "cat", confidence: 0.9712 });

function makeCard(name: string, stage: Stage, prediction?: Prediction): Card {
  return { upload: { key: name, file: new File(["x"], name), preview: "", stage }, prediction };
}

function show(...cards: Card[]) {
  const { container, rerender } = render(<Outcomes cards={cards} />);
  const region = container.querySelector("[aria-live=polite]");
  return {
    told: () => [...(region?.children ?? [])].map(({ textContent }) => textContent),
    change: (...changed: Card[]) => rerender(<Outcomes cards={changed} />),
  };
}

test("each outcome is told once, by the name of its file", () => {
  const { told, change } = show(makeCard("a.png", accepted, makePrediction()));
  expect(told()).toEqual([]);
  const a = makeCard("a.png", accepted, succeeded);
  change(a, makeCard("b.png", { at: "waiting" }));
  expect(told()).toEqual(["a.png: cat, 97.1%"]);
  change(a, makeCard("b.png", refused));
  expect(told()).toEqual(["b.png: Too many wait"]);
});

test("an image that looks like no class is told to", () => {
  const { told } = show(makeCard("a.png", accepted, { ...succeeded, unfamiliar: true }));
  expect(told()).toEqual(["a.png: cat, 97.1%, looks like none of the model's classes"]);
});

test("an upload that is tried again and refused again is told again", () => {
  const { told, change } = show(makeCard("a.png", refused));
  change(makeCard("a.png", { at: "waiting" }));
  expect(told()).toEqual([]);
  change(makeCard("a.png", refused));
  expect(told()).toEqual(["a.png: Too many wait"]);
});
