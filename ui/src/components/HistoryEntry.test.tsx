import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Prediction } from "../api";
import { type Deferred, makeDeferred } from "../deferred.fixture";
import { makePrediction } from "../prediction.fixture";
import { PredictionStore } from "../predictions";
import { HistoryList } from "./HistoryList";
import { useStore } from "./use-store";

const succeeded = makePrediction({
  status: "succeeded",
  prediction: "cat",
  confidence: 0.97,
  probabilities: ["cat", "frog", "dog"].map((label) => ({
    label,
    probability: label === "cat" ? 0.97 : 0.015,
  })),
  completed_at: "2026-11-24T08:15:32Z",
});
const address = succeeded.urls.self;

let asked: string[];
let answer: (url: string, init?: RequestInit) => Response | Promise<Response>;

beforeEach(() => {
  asked = [];
  vi.stubGlobal("confirm", () => true);
  vi.stubGlobal("fetch", async (url: string, init?: RequestInit) => {
    asked.push([init?.method ?? "GET", url, init?.body].filter(Boolean).join(" "));
    return answer(url, init);
  });
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show(prediction: Prediction): PredictionStore {
  const store = new PredictionStore((publish) => publish());
  store.receiveNewest({ results: [prediction], next: null, previous: null });
  const Shown = () => <HistoryList store={store} snapshot={useStore(store)} />;
  render(<Shown />);
  return store;
}

/** Focuses the button and clicks it, as a user's click does. */
const click = (name: string) =>
  act(async () => {
    const button = screen.getByRole("button", { name });
    button.focus();
    button.click();
  });

const choose = (label: string) =>
  act(async () => void fireEvent.change(screen.getByRole("combobox"), { target: { value: label } }));

test("an entry is removed after the service has deleted it, and the focus moves to the heading", async () => {
  answer = () => new Response(null, { status: 204 });
  show(succeeded);
  await click("Remove cat.png");
  expect(asked).toEqual([`DELETE ${address}`]);
  expect(screen.queryByText("cat.png")).toBeNull();
  expect(document.activeElement).toBe(screen.getByRole("heading", { name: "History" }));
});

test("an entry is not removed without confirmation", async () => {
  vi.stubGlobal("confirm", () => false);
  show(succeeded);
  await click("Remove cat.png");
  expect(asked).toEqual([]);
  screen.getByText("cat.png");
});

test("an entry stays if deleting it fails, and is removed if it was deleted elsewhere", async () => {
  answer = () => Response.json({ title: "Database unavailable", detail: "Try again." }, { status: 503 });
  show(succeeded);
  await click("Remove cat.png");
  screen.getByText("Database unavailable.");
  answer = () => Response.json({ title: "Unknown prediction", detail: "No such id." }, { status: 404 });
  await click("Remove cat.png");
  expect(screen.queryByText("cat.png")).toBeNull();
});

test("an unfinished prediction is canceled instead of deleted", async () => {
  const canceled = makePrediction({ status: "canceled", completed_at: "2026-11-24T08:15:32Z" });
  answer = () => Response.json(canceled);
  show(makePrediction());
  await click("Cancel cat.png");
  expect(asked).toEqual([`POST ${address}/cancel`]);
  screen.getByText("Canceled");
  screen.getByRole("button", { name: "Remove cat.png" });
});

test("canceling a prediction that was deleted elsewhere removes its entry", async () => {
  answer = () => Response.json({ title: "Unknown prediction", detail: "No such id." }, { status: 404 });
  show(makePrediction());
  await click("Cancel cat.png");
  expect(screen.queryByText("cat.png")).toBeNull();
});

test("a busy button keeps the focus and sends one request", async () => {
  const answered = makeDeferred<Response>();
  answer = () => answered.promise;
  show(makePrediction());
  await click("Cancel cat.png");
  await click("Cancel cat.png");
  const button = screen.getByRole("button", { name: "Cancel cat.png" });
  expect(button.getAttribute("aria-disabled")).toBe("true");
  expect(document.activeElement).toBe(button);
  expect(asked).toHaveLength(1);
  await act(async () => answered.resolve(Response.json(makePrediction({ status: "canceled" }))));
  expect(document.activeElement).toBe(screen.getByRole("button", { name: "Remove cat.png" }));
});

test("a prediction that ended just before the cancel shows its outcome, without a notice", async () => {
  answer = (_, init) =>
    init?.method === "POST"
      ? Response.json({ title: "The prediction has ended", detail: "It succeeded." }, { status: 409 })
      : Response.json(succeeded);
  show(makePrediction());
  await click("Cancel cat.png");
  expect(screen.queryByRole("alert")).toBeNull();
  screen.getByText("97.0%");
});

test("feedback that fails shows the problem in the entry, and the stored label again", async () => {
  answer = () => Response.json({ title: "Database unavailable", detail: "Try again." }, { status: 503 });
  show(succeeded);
  await choose("dog");
  expect(screen.getByRole("listitem").textContent).toContain("Database unavailable.");
  expect(screen.getByRole<HTMLSelectElement>("combobox").value).toBe("");
});

test("feedback is sent one request at a time, and the label that was chosen last is shown", async () => {
  const answers: Deferred<Response>[] = [];
  answer = () => {
    const next = makeDeferred<Response>();
    answers.push(next);
    return next.promise;
  };
  show(succeeded);
  const choice = screen.getByRole<HTMLSelectElement>("combobox");
  await choose("dog");
  expect(choice.value).toBe("dog");
  await choose("frog");
  expect(choice.value).toBe("frog");
  expect(asked).toEqual([`PUT ${address}/feedback {"label":"dog"}`]);
  await act(async () => answers[0]?.resolve(Response.json({ ...succeeded, feedback: "dog" })));
  expect(asked[1]).toBe(`PUT ${address}/feedback {"label":"frog"}`);
  expect(choice.value).toBe("frog");
  await act(async () => answers[1]?.resolve(Response.json({ ...succeeded, feedback: "frog" })));
  expect(asked).toHaveLength(2);
  expect(choice.value).toBe("frog");
});

test("later feedback is sent even if the request before it failed", async () => {
  const first = makeDeferred<Response>();
  answer = () => (asked.length === 1 ? first.promise : Response.json({ ...succeeded, feedback: "frog" }));
  show(succeeded);
  await choose("dog");
  await choose("frog");
  await act(async () => first.reject(new TypeError("Failed to fetch")));
  expect(screen.queryByRole("alert")).toBeNull();
  expect(screen.getByRole<HTMLSelectElement>("combobox").value).toBe("frog");
});

test("feedback on a prediction that was deleted elsewhere removes its entry and moves the focus", async () => {
  answer = () => Response.json({ title: "Unknown prediction", detail: "No such id." }, { status: 404 });
  show(succeeded);
  screen.getByRole("combobox").focus();
  await choose("dog");
  expect(screen.queryByText("cat.png")).toBeNull();
  expect(document.activeElement).toBe(screen.getByRole("heading", { name: "History" }));
});

test("the correct label is sent when it is chosen, is shown, and can be removed", async () => {
  answer = (_, init) => Response.json({ ...succeeded, feedback: JSON.parse(String(init?.body)).label });
  show(succeeded);
  const choice = screen.getByRole<HTMLSelectElement>("combobox", { name: "Correct label of cat.png" });
  expect([...choice.options].map(({ text }) => text)).toEqual(["Wrong label?", "cat", "dog", "frog"]);
  await choose("dog");
  expect(choice.value).toBe("dog");
  await choose("");
  expect(choice.value).toBe("");
  expect(asked).toEqual([
    `PUT ${address}/feedback {"label":"dog"}`,
    `PUT ${address}/feedback {"label":null}`,
  ]);
});

test("a label that was set through the API is one of the choices", () => {
  show({ ...succeeded, feedback: "a house" });
  expect(screen.getByRole<HTMLSelectElement>("combobox").value).toBe("a house");
});
