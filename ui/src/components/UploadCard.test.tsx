import { cleanup, render, screen } from "@testing-library/react";
import { afterEach, expect, test, vi } from "vitest";
import { ApiProblem, type Prediction } from "../api";
import { makePrediction } from "../prediction.fixture";
import type { Stage } from "../upload-list";
import { UploadCard } from "./UploadCard";

afterEach(cleanup);

const onRetry = vi.fn();

function card(stage: Stage, prediction?: Prediction) {
  const upload = { key: "1", file: new File(["x"], "cat.png"), preview: "blob:preview", stage };
  return (
    <UploadCard
      upload={upload}
      prediction={prediction}
      chooser={{ current: null }}
      onRetry={onRetry}
      onDismiss={vi.fn()}
    />
  );
}

const succeeded = makePrediction({
  status: "succeeded",
  prediction: "cat",
  confidence: 0.9712,
  probabilities: ["cat", "dog", "deer", "frog", "bird", "ship"].map((label, place) => ({
    label,
    probability: place === 0 ? 0.9712 : 0.0288 / 5,
  })),
  model: "2026-11-24-1f0c9a7b",
  metrics: { queue_ms: 5.2, batch_size: 8, predict_ms: 9.7 },
});

test("a card shows each stage from waiting to the label", () => {
  const { rerender } = render(card({ at: "waiting" }));
  screen.getByText("Waiting to upload");

  rerender(card({ at: "sending", fraction: 0.25 }));
  expect(screen.getByRole<HTMLProgressElement>("progressbar").value).toBe(0.25);
  screen.getByText("Uploading");

  rerender(card({ at: "sending", fraction: 1 }));
  screen.getByText("Processing");

  const accepted: Stage = { at: "accepted", id: succeeded.id };
  rerender(card(accepted, makePrediction()));
  screen.getByText("Queued");

  rerender(card(accepted, makePrediction({ status: "running" })));
  screen.getByText("Running");

  rerender(card(accepted, succeeded));
  expect(screen.getAllByRole("listitem").map((row) => row.textContent)).toEqual([
    "cat97.1%",
    "dog0.6%",
    "deer0.6%",
    "frog0.6%",
    "bird0.6%",
  ]);
  for (const part of ["waited 5.2 ms", "batch of 8", "predicted in 9.7 ms", "model 2026-11-24-1f0c9a7b"]) {
    screen.getByText(part);
  }
  expect(screen.getByRole("img", { name: "As the model sees it" }).getAttribute("src")).toBe(
    succeeded.urls.image,
  );
});

test("a refused upload that cannot be retried shows the problem and no button", () => {
  const problem = new ApiProblem(415, "Not a supported image", "Convert it to JPEG.", "01a2");
  render(card({ at: "refused", problem }));
  screen.getByText("Not a supported image");
  screen.getByText("Convert it to JPEG.");
  screen.getByText("request ID 01a2");
  expect(screen.queryByRole("button")).toBeNull();
});

test("an upload that can be retried has a button, which moves the focus to the card", () => {
  const problem = new ApiProblem(503, "Database unavailable", "Try again.");
  const { rerender } = render(card({ at: "refused", problem }));
  const button = screen.getByRole("button", { name: "Try again" });
  button.focus();
  button.click();
  expect(onRetry).toHaveBeenCalledOnce();
  rerender(card({ at: "waiting" }));
  expect(document.activeElement).toBe(screen.getByRole("article", { name: "cat.png" }));
});

test("a failed prediction shows the reason", () => {
  const error = {
    title: "Failed after 3 attempts",
    detail: "The worker stopped 3 times while it had this image; upload it again.",
  };
  render(card({ at: "accepted", id: "1" }, makePrediction({ status: "failed", error })));
  screen.getByText("Failed after 3 attempts");
  screen.getByText("The worker stopped 3 times while it had this image; upload it again.");
});

test("an unfamiliar image has a note and a guess, and one bar fewer", () => {
  const accepted: Stage = { at: "accepted", id: succeeded.id };
  const { rerender } = render(card(accepted, { ...succeeded, unfamiliar: true }));
  screen.getByText("Looks like none of the model's classes");
  screen.getByText("Closest guess");
  expect(screen.getAllByRole("listitem")).toHaveLength(4);

  for (const unfamiliar of [false, null]) {
    rerender(card(accepted, { ...succeeded, unfamiliar }));
    expect(screen.queryByText(/none of the model/)).toBeNull();
    expect(screen.queryByText("Closest guess")).toBeNull();
  }
});
