import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Prediction } from "../api";
import { type Deferred, makeDeferred } from "../deferred.fixture";
import { ModelStore } from "../models";
import { makePrediction } from "../prediction.fixture";
import { PredictionStore } from "../predictions";
import { TrainingStore } from "../trainings";
import { UploadQueue } from "../upload-queue";
import { App } from "./App";

let answer: Deferred<Prediction>; // the response to each upload

beforeEach(() => {
  answer = makeDeferred();
  URL.createObjectURL = () => "blob:preview";
  window.location.hash = "";
  vi.stubGlobal("fetch", async () => Response.json({ results: [], next: null }));
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show() {
  const store = new PredictionStore((publish) => publish());
  const queue = new UploadQueue(store, () => answer.promise);
  render(<App store={store} queue={queue} models={new ModelStore()} trainings={new TrainingStore()} />);
  return store;
}

async function goTo(hash: string) {
  await act(async () => {
    window.location.hash = hash;
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  });
}

test("the history says why a prediction failed", async () => {
  const store = show();
  const error = {
    title: "Failed after 3 attempts",
    detail: "The worker stopped 3 times while it had this image.",
  };
  act(() => {
    const failed = makePrediction({ status: "failed", completed_at: "2026-11-24T08:15:32Z", error });
    store.receiveNewest({ results: [failed], next: null, previous: null });
  });
  screen.getByText("Failed after 3 attempts");
  screen.getByText(error.detail);
});

test("the upload page is shown first, and links lead to the models and back", async () => {
  show();
  screen.getByLabelText("Choose images");
  const link = screen.getByRole("link", { name: "Models" });
  expect(link.getAttribute("aria-current")).toBeNull();

  await goTo(link.getAttribute("href") ?? "");
  screen.getByRole("heading", { name: "Models" });
  screen.getByRole("heading", { name: "Train" });
  expect(screen.getByRole("link", { name: "Models" }).getAttribute("aria-current")).toBe("page");
  expect(screen.queryByLabelText("Choose images")).toBeNull();
  expect(document.title).toContain("Models");

  await goTo(screen.getByRole("link", { name: "Upload" }).getAttribute("href") ?? "");
  screen.getByLabelText("Choose images");
});

test("the history marks an unfamiliar image", () => {
  const store = show();
  const succeeded = makePrediction({
    status: "succeeded",
    prediction: "cat",
    confidence: 0.5,
    unfamiliar: true,
  });
  act(() => store.receiveNewest({ results: [succeeded], next: null, previous: null }));
  const entry = screen.getByText("cat.png").closest("li");
  expect(entry?.textContent).toContain("Looks like none of the model's classes");
});

test("closing the page needs confirmation while uploads are unanswered, in both views", async () => {
  show();
  // Returns false if the page asks for confirmation.
  const leaves = () => fireEvent(window, new Event("beforeunload", { cancelable: true }));
  expect(leaves()).toBe(true);
  const files = [new File(["x"], "cat.png")];
  fireEvent.change(screen.getByLabelText("Choose images"), { target: { files } });
  expect(leaves()).toBe(false);
  await goTo("#/models");
  expect(leaves()).toBe(false);
  await act(async () => answer.resolve(makePrediction()));
  expect(leaves()).toBe(true);
});
