import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { makePrediction } from "./prediction.fixture";
import { followPredictions } from "./stream";

/** Stands in for the browser's own, which jsdom does not have. */
class FakeEventSource extends EventTarget {
  static readonly CLOSED = 2;
  static opened: FakeEventSource[] = [];
  readyState = 1;
  onopen = () => {};
  onerror = () => {};

  constructor(readonly url: string) {
    super();
    FakeEventSource.opened.push(this);
  }
}

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
  const data = JSON.stringify(makePrediction());
  FakeEventSource.opened[0]?.dispatchEvent(new MessageEvent("prediction", { data }));
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
