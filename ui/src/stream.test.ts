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

test("an event `prediction` is passed to onPrediction", () => {
  FakeEventSource.opened[0]?.emit("prediction", makePrediction());
  expect(onPrediction).toHaveBeenCalledWith(makePrediction());
});

test("an event `deleted` passes the id to onDeleted, and `reload` calls onReload", () => {
  FakeEventSource.opened[0]?.emit("deleted", { id: makePrediction().id });
  expect(onDeleted).toHaveBeenCalledWith(makePrediction().id);
  expect(onReload).not.toHaveBeenCalled();
  FakeEventSource.opened[0]?.emit("reload", {});
  expect(onReload).toHaveBeenCalledOnce();
});

test("after a dropped connection no second EventSource is opened", () => {
  FakeEventSource.opened[0]?.onerror();
  vi.advanceTimersByTime(60_000);
  expect(onConnection).toHaveBeenLastCalledWith("reconnecting");
  expect(FakeEventSource.opened).toHaveLength(1);
});

test("a stream that was closed by an error status is opened again, once", () => {
  const [source] = FakeEventSource.opened;
  if (source) source.readyState = FakeEventSource.CLOSED;
  source?.onerror();
  vi.advanceTimersByTime(60_000);
  expect(FakeEventSource.opened).toHaveLength(2);
  FakeEventSource.opened[1]?.onopen();
  expect(onConnection).toHaveBeenLastCalledWith("live");
});

test("the stream of a training passes on the training and its epochs, and can be closed", () => {
  const handlers = { onTraining: vi.fn(), onEpoch: vi.fn(), onConnection: vi.fn() };
  const close = followTraining("/api/trainings/1/events", handlers);
  const source = FakeEventSource.opened[1];
  source?.emit("training", makeTraining());
  source?.emit("epoch", makeEpoch(1));
  expect(handlers.onTraining).toHaveBeenCalledWith(makeTraining());
  expect(handlers.onEpoch).toHaveBeenCalledWith(makeEpoch(1));
  close();
  expect(source?.readyState).toBe(FakeEventSource.CLOSED);
});

test("a stream that is closed while it waits to reopen stays closed", () => {
  const handlers = { onTraining: vi.fn(), onEpoch: vi.fn(), onConnection: vi.fn() };
  const close = followTraining("/api/trainings/1/events", handlers);
  const source = FakeEventSource.opened[1];
  if (source) source.readyState = FakeEventSource.CLOSED;
  source?.onerror();
  close();
  vi.advanceTimersByTime(60_000);
  expect(FakeEventSource.opened).toHaveLength(2);
});

describe("a hidden page", () => {
  const LONG_MS = 60_000;

  function setHiddenAndWait(hidden: boolean, ms: number) {
    vi.spyOn(document, "hidden", "get").mockReturnValue(hidden);
    document.dispatchEvent(new Event("visibilitychange"));
    vi.advanceTimersByTime(ms);
  }

  test("closes its stream after a while, and opens it again when it is visible", () => {
    const [source] = FakeEventSource.opened;
    source?.onopen();
    setHiddenAndWait(true, LONG_MS);
    expect(source?.readyState).toBe(FakeEventSource.CLOSED);
    expect(onConnection).toHaveBeenLastCalledWith("connecting");
    expect(FakeEventSource.opened).toHaveLength(1);

    setHiddenAndWait(false, 0);
    expect(FakeEventSource.opened).toHaveLength(2);
    FakeEventSource.opened[1]?.onopen();
    expect(onConnection).toHaveBeenLastCalledWith("live");
  });

  test("keeps its stream if it is shown again soon", () => {
    setHiddenAndWait(true, 20_000);
    setHiddenAndWait(false, LONG_MS);
    expect(FakeEventSource.opened.map(({ readyState }) => readyState)).toEqual([1]); // one stream, still open
  });

  test("closes its stream even if it was never visible", () => {
    vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    const closeOther = followPredictions(handlers);
    vi.advanceTimersByTime(LONG_MS);
    expect(FakeEventSource.opened[1]?.readyState).toBe(FakeEventSource.CLOSED);
    closeOther();
  });

  test("closes a stream that was reopened after an error", () => {
    const [source] = FakeEventSource.opened;
    setHiddenAndWait(true, 29_000);
    if (source) source.readyState = FakeEventSource.CLOSED;
    source?.onerror();
    setHiddenAndWait(true, LONG_MS);
    expect(FakeEventSource.opened).toHaveLength(2); // reopened after the error, and closed by now
    expect(FakeEventSource.opened[1]?.readyState).toBe(FakeEventSource.CLOSED);
  });

  test("opens no stream when it is visible again, if the caller has closed the stream", () => {
    setHiddenAndWait(true, LONG_MS);
    close();
    setHiddenAndWait(false, LONG_MS);
    expect(FakeEventSource.opened).toHaveLength(1);
  });
});
