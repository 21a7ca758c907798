import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { FakeEventSource } from "./event-source.fixture";
import { makePrediction } from "./prediction.fixture";
import { followPredictions, followTraining } from "./stream";
import { makeEpoch, makeTraining } from "./training.fixture";

const onPrediction = vi.fn();
const onDeleted = vi.fn();
const onReload = vi.fn();
const onConnection = vi.fn();
const handlers = { onPrediction, onDeleted, onReload, onConnection };
let close: () => void;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("EventSource", FakeEventSource);
  FakeEventSource.opened = [];
  close = followPredictions(handlers);
});

afterEach(() => {
  close();
  vi.restoreAllMocks();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("an event named prediction hands its prediction on", () => {
  FakeEventSource.opened[0]?.say("prediction", makePrediction());
  expect(onPrediction).toHaveBeenCalledWith(makePrediction());
});

test("an event named deleted hands the prediction's id on, and reload asks for the history", () => {
  FakeEventSource.opened[0]?.say("deleted", { id: makePrediction().id });
  expect(onDeleted).toHaveBeenCalledWith(makePrediction().id);
  expect(onReload).not.toHaveBeenCalled();
  FakeEventSource.opened[0]?.say("reload", {});
  expect(onReload).toHaveBeenCalledOnce();
});

test("a stream that was dropped is left to reconnect by itself", () => {
  FakeEventSource.opened[0]?.onerror();
  vi.advanceTimersByTime(60_000);
  expect(onConnection).toHaveBeenLastCalledWith("reconnecting");
  expect(FakeEventSource.opened).toHaveLength(1);
});

test("a stream that an error status has closed is opened anew, and once", () => {
  const [source] = FakeEventSource.opened;
  if (source) source.readyState = FakeEventSource.CLOSED;
  source?.onerror();
  vi.advanceTimersByTime(60_000);
  expect(FakeEventSource.opened).toHaveLength(2);
  FakeEventSource.opened[1]?.onopen();
  expect(onConnection).toHaveBeenLastCalledWith("live");
});

test("a training's stream hands on runs and epochs until it is closed", () => {
  const handlers = { onTraining: vi.fn(), onEpoch: vi.fn(), onConnection: vi.fn() };
  const close = followTraining("/api/trainings/1/events", handlers);
  const source = FakeEventSource.opened[1];
  source?.say("training", makeTraining());
  source?.say("epoch", makeEpoch(1));
  expect(handlers.onTraining).toHaveBeenCalledWith(makeTraining());
  expect(handlers.onEpoch).toHaveBeenCalledWith(makeEpoch(1));
  close();
  expect(source?.readyState).toBe(FakeEventSource.CLOSED);
});

test("a stream that was closed while it waits to be opened anew stays closed", () => {
  const handlers = { onTraining: vi.fn(), onEpoch: vi.fn(), onConnection: vi.fn() };
  const close = followTraining("/api/trainings/1/events", handlers);
  const source = FakeEventSource.opened[1];
  if (source) source.readyState = FakeEventSource.CLOSED;
  source?.onerror();
  close();
  vi.advanceTimersByTime(60_000);
  expect(FakeEventSource.opened).toHaveLength(2);
});

describe("a page that nobody sees", () => {
  const FOR_A_WHILE = 60_000;

  function setHidden(hidden: boolean, ms: number) {
    vi.spyOn(document, "hidden", "get").mockReturnValue(hidden);
    document.dispatchEvent(new Event("visibilitychange"));
    vi.advanceTimersByTime(ms);
  }

  test("lets its stream go after a while, and opens it anew once it is seen", () => {
    const [source] = FakeEventSource.opened;
    source?.onopen();
    setHidden(true, FOR_A_WHILE);
    expect(source?.readyState).toBe(FakeEventSource.CLOSED);
    expect(onConnection).toHaveBeenLastCalledWith("connecting");
    expect(FakeEventSource.opened).toHaveLength(1);

    setHidden(false, 0);
    expect(FakeEventSource.opened).toHaveLength(2);
    FakeEventSource.opened[1]?.onopen();
    expect(onConnection).toHaveBeenLastCalledWith("live");
  });

  test("keeps its stream through a glance at another tab", () => {
    setHidden(true, 20_000);
    setHidden(false, FOR_A_WHILE);
    expect(FakeEventSource.opened.map(({ readyState }) => readyState)).toEqual([1]);
  });

  test("lets its stream go though it was never seen", () => {
    vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    const closeOther = followPredictions(handlers);
    vi.advanceTimersByTime(FOR_A_WHILE);
    expect(FakeEventSource.opened[1]?.readyState).toBe(FakeEventSource.CLOSED);
    closeOther();
  });

  test("does not open a stream again that an error has closed, nor one that was ended", () => {
    const [source] = FakeEventSource.opened;
    setHidden(true, 29_000);
    if (source) source.readyState = FakeEventSource.CLOSED;
    source?.onerror();
    setHidden(true, FOR_A_WHILE);
    expect(FakeEventSource.opened).toHaveLength(2); // that of the error, which is closed by now
    expect(FakeEventSource.opened[1]?.readyState).toBe(FakeEventSource.CLOSED);
    close();
    setHidden(false, FOR_A_WHILE);
    expect(FakeEventSource.opened).toHaveLength(2);
  });
});
