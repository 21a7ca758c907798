import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FakeEventSource } from "./event-source.fixture";
import { makePrediction } from "./prediction.fixture";
import { followPredictions, followTraining } from "./stream";
import { makeEpoch, makeTraining } from "./training.fixture";

const onPrediction = vi.fn();
const onConnection = vi.fn();

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("EventSource", FakeEventSource);
  FakeEventSource.opened = [];
  followPredictions({ onPrediction, onConnection });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("an event named prediction hands its prediction on", () => {
  FakeEventSource.opened[0]?.say("prediction", makePrediction());
  expect(onPrediction).toHaveBeenCalledWith(makePrediction());
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
