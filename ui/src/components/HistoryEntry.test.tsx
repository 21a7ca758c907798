import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { useSyncExternalStore } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Prediction } from "../api";
import { type Later, makeLater } from "../later.fixture";
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
let answer: (address: string, init?: RequestInit) => Response | Promise<Response>;

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

/** As browsers do: the button gets the focus, too. */
const click = (name: string) =>
  act(async () => {
    const button = screen.getByRole("button", { name });
    button.focus();
    button.click();
  });

const correct = (label: string) =>
  act(async () => void fireEvent.change(screen.getByRole("combobox"), { target: { value: label } }));

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

test("a button keeps the focus while the service is asked, and asks once", async () => {
  const answered = makeLater<Response>();
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

test("what ended just before it was canceled shows how, without a notice", async () => {
  answer = (_, init) =>
    init?.method === "POST"
      ? Response.json({ title: "It has ended", detail: "It succeeded." }, { status: 409 })
      : Response.json(succeeded);
  show(makePrediction());
  await click("Cancel cat.png");
  expect(screen.queryByRole("alert")).toBeNull();
  screen.getByText("97.0%");
});

test("a correction that fails is said in its entry, which shows again what is stored", async () => {
  answer = () => Response.json({ title: "The database is away", detail: "Try again." }, { status: 503 });
  show(succeeded);
  await correct("dog");
  expect(screen.getByRole("listitem").textContent).toContain("The database is away.");
  expect(screen.getByRole<HTMLSelectElement>("combobox").value).toBe("");
});

test("corrections go one after another, and what was chosen last shows meanwhile", async () => {
  const answers: Later<Response>[] = [];
  answer = () => {
    const next = makeLater<Response>();
    answers.push(next);
    return next.promise;
  };
  show(succeeded);
  const choice = screen.getByRole<HTMLSelectElement>("combobox");
  await correct("dog");
  expect(choice.value).toBe("dog");
  await correct("frog");
  expect(choice.value).toBe("frog");
  expect(asked).toEqual([`PUT ${place}/feedback {"label":"dog"}`]);
  await act(async () => answers[0]?.resolve(Response.json({ ...succeeded, feedback: "dog" })));
  expect(asked[1]).toBe(`PUT ${place}/feedback {"label":"frog"}`);
  expect(choice.value).toBe("frog");
  await act(async () => answers[1]?.resolve(Response.json({ ...succeeded, feedback: "frog" })));
  expect(asked).toHaveLength(2);
  expect(choice.value).toBe("frog");
});

test("a later correction goes though the one before it failed", async () => {
  const first = makeLater<Response>();
  answer = () => (asked.length === 1 ? first.promise : Response.json({ ...succeeded, feedback: "frog" }));
  show(succeeded);
  await correct("dog");
  await correct("frog");
  await act(async () => first.reject(new TypeError("Failed to fetch")));
  expect(screen.queryByRole("alert")).toBeNull();
  expect(screen.getByRole<HTMLSelectElement>("combobox").value).toBe("frog");
});

test("what was removed elsewhere goes when it is corrected, and the focus goes to the heading", async () => {
  answer = () => Response.json({ title: "Unknown prediction", detail: "No such id." }, { status: 404 });
  show(succeeded);
  screen.getByRole("combobox").focus();
  await correct("dog");
  expect(screen.queryByText("cat.png")).toBeNull();
  expect(document.activeElement).toBe(screen.getByRole("heading", { name: "History" }));
});

test("the right label is sent as it is chosen, shown, and can be taken back", async () => {
  answer = (_, init) => Response.json({ ...succeeded, feedback: JSON.parse(String(init?.body)).label });
  show(succeeded);
  const choice = screen.getByRole<HTMLSelectElement>("combobox", { name: "Right label of cat.png" });
  expect([...choice.options].map(({ text }) => text)).toEqual(["Wrong?", "cat", "dog", "frog"]);
  await correct("dog");
  expect(choice.value).toBe("dog");
  await correct("");
  expect(choice.value).toBe("");
  expect(asked).toEqual([`PUT ${place}/feedback {"label":"dog"}`, `PUT ${place}/feedback {"label":null}`]);
});

test("a label that was given over the API is a choice, too", () => {
  show({ ...succeeded, feedback: "a house" });
  expect(screen.getByRole<HTMLSelectElement>("combobox").value).toBe("a house");
});
