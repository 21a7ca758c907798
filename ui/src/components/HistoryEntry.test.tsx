import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { useSyncExternalStore } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Prediction } from "../api";
import { makePrediction } from "../prediction.fixture";
import { PredictionStore } from "../predictions";
import { HistoryList } from "./HistoryList";

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
const place = succeeded.urls.self;

let asked: string[];
let answer: (address: string, init?: RequestInit) => Response;

beforeEach(() => {
  asked = [];
  vi.stubGlobal("confirm", () => true);
  vi.stubGlobal("fetch", async (address: string, init?: RequestInit) => {
    asked.push([init?.method ?? "GET", address, init?.body].filter(Boolean).join(" "));
    return answer(address, init);
  });
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show(prediction: Prediction): PredictionStore {
  const store = new PredictionStore((publish) => publish());
  store.receiveNewest({ results: [prediction], next: null, previous: null });
  const Shown = () => (
    <HistoryList store={store} snapshot={useSyncExternalStore(store.subscribe, store.getSnapshot)} />
  );
  render(<Shown />);
  return store;
}

const click = (name: string) => act(async () => screen.getByRole("button", { name }).click());

test("an entry is removed once the service has removed it, and the focus goes to the heading", async () => {
  answer = () => new Response(null, { status: 204 });
  show(succeeded);
  await click("Remove cat.png");
  expect(asked).toEqual([`DELETE ${place}`]);
  expect(screen.queryByText("cat.png")).toBeNull();
  expect(document.activeElement).toBe(screen.getByRole("heading", { name: "History" }));
});

test("an entry is not removed by a slip", async () => {
  vi.stubGlobal("confirm", () => false);
  show(succeeded);
  await click("Remove cat.png");
  expect(asked).toEqual([]);
  screen.getByText("cat.png");
});

test("an entry that was removed elsewhere goes, too; one that cannot be removed stays and says why", async () => {
  answer = () => Response.json({ title: "The database is away", detail: "Try again." }, { status: 503 });
  show(succeeded);
  await click("Remove cat.png");
  screen.getByText("The database is away.");
  answer = () => Response.json({ title: "Unknown prediction", detail: "No such id." }, { status: 404 });
  await click("Remove cat.png");
  expect(screen.queryByText("cat.png")).toBeNull();
});

test("what has not ended is canceled instead", async () => {
  const canceled = makePrediction({ status: "canceled", completed_at: "2026-11-24T08:15:32Z" });
  answer = () => Response.json(canceled);
  show(makePrediction());
  await click("Cancel cat.png");
  expect(asked).toEqual([`POST ${place}/cancel`]);
  screen.getByText("canceled");
  screen.getByRole("button", { name: "Remove cat.png" });
});

test("what was removed elsewhere goes when it is to be canceled", async () => {
  answer = () => Response.json({ title: "Unknown prediction", detail: "No such id." }, { status: 404 });
  show(makePrediction());
  await click("Cancel cat.png");
  expect(screen.queryByText("cat.png")).toBeNull();
});

test("a correction that fails is said in its entry", async () => {
  answer = () => Response.json({ title: "The database is away", detail: "Try again." }, { status: 503 });
  show(succeeded);
  const choice = screen.getByRole("combobox");
  await act(async () => void fireEvent.change(choice, { target: { value: "dog" } }));
  expect(screen.getByRole("listitem").textContent).toContain("The database is away.");
});

test("the right label is sent as it is chosen, shown, and can be taken back", async () => {
  answer = (_, init) => Response.json({ ...succeeded, feedback: JSON.parse(String(init?.body)).label });
  show(succeeded);
  const choice = screen.getByRole<HTMLSelectElement>("combobox", { name: "Right label of cat.png" });
  expect([...choice.options].map(({ text }) => text)).toEqual(["Wrong?", "cat", "dog", "frog"]);
  await act(async () => void fireEvent.change(choice, { target: { value: "dog" } }));
  expect(choice.value).toBe("dog");
  await act(async () => void fireEvent.change(choice, { target: { value: "" } }));
  expect(choice.value).toBe("");
  expect(asked).toEqual([`PUT ${place}/feedback {"label":"dog"}`, `PUT ${place}/feedback {"label":null}`]);
});

test("a label that was given over the API is a choice, too", () => {
  show({ ...succeeded, feedback: "a house" });
  expect(screen.getByRole<HTMLSelectElement>("combobox").value).toBe("a house");
});
