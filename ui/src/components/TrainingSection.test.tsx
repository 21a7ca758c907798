import { act, cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Epoch, Training } from "../api";
import { FakeEventSource } from "../event-source.fixture";
import { makeEpoch, makeTraining, makeTrainingId } from "../training.fixture";
import { TrainingStore } from "../trainings";
import { TrainingSection } from "./TrainingSection";

const running = makeTraining({ status: "running", phase: "reading", epochs: 8 });
const other = makeTraining({ id: makeTrainingId(2), seed: 7 });
const failed = makeTraining({
  status: "failed",
  completed_at: "2026-11-24T08:21:00Z",
  error: { title: "Training crashed", detail: "It ran out of memory." },
});

const onEnd = vi.fn();
let answer: (address: string, init?: RequestInit) => Response;

beforeEach(() => {
  FakeEventSource.opened = [];
  onEnd.mockReset();
  answer = () => Response.json({ results: [], next: null });
  vi.stubGlobal("EventSource", FakeEventSource);
  vi.stubGlobal("fetch", async (address: string, init?: RequestInit) => answer(address, init));
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show(...trainings: Training[]) {
  const store = new TrainingStore();
  store.receivePage(store.getRevision(), { results: trainings, next: null });
  return { store, ...render(<TrainingSection store={store} onEnd={onEnd} />) };
}

/** Answers the run's own address with the run, and every other address with an empty list. */
function answerFor(training: Training & { curve: Epoch[] }) {
  return (address: string) =>
    Response.json(address === training.urls.self ? training : { results: [], next: null });
}

function openStreams(): string[] {
  return FakeEventSource.opened
    .filter(({ readyState }) => readyState !== FakeEventSource.CLOSED)
    .map(({ url }) => url);
}

test("only the stream of the shown run is open, and none after the page is left", () => {
  const { unmount } = show(other, running);
  expect(openStreams()).toEqual([running.urls.events]);
  fireEvent.click(screen.getByRole("button", { name: /seed 7/ }));
  expect(openStreams()).toEqual([other.urls.events]);
  unmount();
  expect(openStreams()).toEqual([]);
});

test("a run is followed from its first epoch to its published model", () => {
  show(running);
  const [stream] = FakeEventSource.opened;
  screen.getByText("Running: reading");
  act(() => {
    stream?.emit("training", { ...running, phase: "training", device: "a GPU" });
    stream?.emit("epoch", makeEpoch(1));
    stream?.emit("epoch", makeEpoch(2, { loss: 0.4321, images_per_second: 12345.6 }));
  });
  expect(screen.getByText("Running: training on a GPU").getAttribute("aria-live")).toBe("polite");
  for (const figure of ["2 of 8", "0.432", "12,346"]) screen.getByText(figure);
  screen.getByRole("img", {
    name: /after epoch 2 of 8: validation accuracy 60.00%, training accuracy 50.00%/,
  });

  const ended = { ...running, status: "succeeded" as const, phase: null, model: "v2" };
  answer = answerFor({ ...ended, curve: [1, 2].map((number) => makeEpoch(number)) });
  act(() => stream?.emit("training", ended));
  screen.getByText("Published v2");
  expect(screen.queryByRole("button", { name: "Cancel" })).toBeNull();
  expect(onEnd).toHaveBeenCalledOnce();
  expect(openStreams()).toEqual([]);
});

test("a failed run shows the reason, and its curve is read without a stream", async () => {
  answer = () => Response.json({ ...failed, curve: [makeEpoch(1)] });
  show(failed);
  screen.getByText("Training crashed.");
  screen.getByText("It ran out of memory.");
  await screen.findByRole("img", { name: /Learning curve/ });
  expect(FakeEventSource.opened).toEqual([]);
});

test("a run that ends while it is shown stays shown, although another run is queued", () => {
  answer = answerFor({ ...failed, curve: [] });
  show(other, running);
  const [stream] = FakeEventSource.opened;
  act(() => stream?.emit("training", failed));
  screen.getByText("Training crashed.");
});

test("a run that ended while another was shown has its complete curve", async () => {
  const { store } = show(other, running);
  act(() => FakeEventSource.opened[0]?.emit("epoch", makeEpoch(1)));
  fireEvent.click(screen.getByRole("button", { name: /seed 7/ }));
  answer = answerFor({ ...failed, curve: [1, 2, 3].map((number) => makeEpoch(number)) });
  act(() => store.receivePage(store.getRevision(), { results: [failed], next: null }));
  fireEvent.click(screen.getByRole("button", { name: /seed 0/ }));
  await screen.findByRole("img", { name: /after epoch 3:/ });
});

test("a run whose worker has stopped responding says so", () => {
  show({ ...running, silent: true });
  screen.getByText(/^The worker stopped responding/);
});

test("the error of reading a curve stays when the list is read again, and goes when the curve is read", async () => {
  answer = () => Response.json({ title: "Database unavailable", detail: "Try again." }, { status: 503 });
  const { store } = show(failed);
  await screen.findByRole("alert");
  act(() => store.receivePage(store.getRevision(), { results: [failed], next: null }));
  expect(screen.getByRole("alert").textContent).toContain("Database unavailable.");

  answer = answerFor({ ...failed, curve: [makeEpoch(1)] });
  const button = screen.getByRole("button", { name: "Try again" });
  button.focus();
  fireEvent.click(button);
  await screen.findByRole("img", { name: /Learning curve/ });
  expect(screen.queryByRole("alert")).toBeNull();
  expect(document.activeElement).toBe(screen.getByRole("heading", { name: "Train" }));
});

test("a canceled run stays shown, so that a second click does not cancel the next run", async () => {
  const canceled = { ...running, status: "canceled" as const };
  answer = (address) =>
    Response.json(address === running.urls.cancel ? canceled : { ...canceled, curve: [] });
  show(other, running);
  const button = screen.getByRole("button", { name: "Cancel" });
  button.focus();
  await act(async () => button.click());
  within(screen.getByRole("article")).getByText("Canceled");
  expect(screen.queryByRole("button", { name: "Cancel" })).toBeNull();
  expect(document.activeElement).toBe(screen.getByRole("heading", { name: "fast · CIFAR-10 · seed 0" }));
});

test("canceling sends a request, and shows the problem if it fails", async () => {
  const asked: string[] = [];
  answer = (address, init) => {
    asked.push(`${init?.method} ${address}`);
    return Response.json(
      { title: "The training has ended", detail: "It succeeded a moment ago." },
      { status: 409 },
    );
  };
  show(running);
  fireEvent.click(screen.getByRole("button", { name: "Cancel" }));
  expect((await screen.findByRole("alert")).textContent).toContain("It succeeded a moment ago.");
  expect(asked).toEqual([`POST ${running.urls.cancel}`]);
});

test("the form sends null for empty fields, and shows the run that it started", async () => {
  const bodies: unknown[] = [];
  answer = (_, init) => {
    bodies.push(JSON.parse(String(init?.body)));
    return Response.json(other, { status: 202 });
  };
  show(running);
  fireEvent.change(screen.getByLabelText("Recipe"), { target: { value: "accurate" } });
  fireEvent.change(screen.getByLabelText("Seed"), { target: { value: "7" } });
  fireEvent.click(screen.getByRole("button", { name: "Train" }));
  await screen.findByRole("heading", { name: "fast · CIFAR-10 · seed 7" });
  expect(bodies).toEqual([{ recipe: "accurate", seed: 7, epochs: null, data: null, activation: "better" }]);
  expect(openStreams()).toEqual([other.urls.events]);
});

test("the form shows the problem if the service refuses the run", async () => {
  answer = () =>
    Response.json(
      { title: "Too many trainings are waiting", detail: "Cancel one of them." },
      { status: 429 },
    );
  show();
  fireEvent.change(screen.getByLabelText("Epochs (optional)"), { target: { value: "3" } });
  fireEvent.click(screen.getByRole("button", { name: "Train" }));
  expect((await screen.findByRole("alert")).textContent).toContain("Cancel one of them.");
});
