import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiProblem } from "../api";
import { makeId, makePrediction } from "../prediction.fixture";
import { PredictionStore } from "../predictions";
import { HistoryList } from "./HistoryList";
import { useStore } from "./use-store";

const unavailable = new ApiProblem(503, "Database unavailable", "Try again.");
const empty = { results: [], next: null, previous: null };

let store: PredictionStore;
let asked: string[];
let answer: (address: string) => Response;

beforeEach(() => {
  store = new PredictionStore((publish) => publish());
  asked = [];
  vi.stubGlobal("fetch", async (address: string) => {
    asked.push(address);
    return answer(address);
  });
  const Shown = () => <HistoryList store={store} snapshot={useStore(store)} />;
  render(<Shown />);
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function click(name: string) {
  const button = screen.getByRole("button", { name });
  button.focus();
  return act(async () => button.click());
}

test("trying again reads the newest page and the unfinished uploads of this tab", async () => {
  URL.createObjectURL = () => "blob:preview";
  const own = makePrediction();
  act(() => {
    const [upload] = store.addUploads([new File(["x"], "cat.png")]);
    store.accept(upload?.key ?? "", own);
    store.setHistoryProblem("newest", unavailable);
  });
  answer = (address) => Response.json(address === own.urls.self ? own : empty);
  await click("Try again");
  expect(asked).toEqual(["/api/predictions?limit=24", own.urls.self]);
  expect(screen.queryByRole("alert")).toBeNull();
  expect(document.activeElement).toBe(screen.getByRole("heading", { name: "History" }));
});

test("older entries are shown page by page, and a page that failed can be read again", async () => {
  const page = { results: [makePrediction()], next: "c", previous: null };
  act(() => store.receiveNewest(page));
  answer = () => Response.json({ title: unavailable.title, detail: unavailable.detail }, { status: 503 });
  await click("Show older");
  expect(screen.getByRole("alert").textContent).toContain(unavailable.title);
  expect(screen.queryByRole("button", { name: "Try again" })).toBeNull();

  const old = makePrediction({ id: makeId(1), filename: "old.png" });
  answer = () => Response.json({ ...empty, results: [old] });
  await click("Show older");
  expect(asked).toEqual(Array(2).fill("/api/predictions?limit=24&cursor=c"));
  screen.getByText("old.png");
  expect(screen.queryByRole("alert")).toBeNull();
  expect(screen.queryByRole("button", { name: "Show older" })).toBeNull();
});
