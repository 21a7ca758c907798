import { beforeAll, describe, expect, test, vi } from "vitest";
import { ApiProblem, type Prediction } from "./api";
import { makePrediction } from "./prediction.fixture";
import { MAX_CARDS, merge, PAGE, PredictionStore } from "./predictions";

const queued = makePrediction({ status: "queued" });
const running = makePrediction({ status: "running", started_at: "2026-11-24T08:15:31Z" });
const succeeded = makePrediction({
  status: "succeeded",
  prediction: "cat",
  confidence: 0.97,
  started_at: "2026-11-24T08:15:31Z",
  completed_at: "2026-11-24T08:15:32Z",
});

beforeAll(() => {
  URL.createObjectURL = () => "blob:preview";
  URL.revokeObjectURL = () => {};
});

function makeStore(): PredictionStore {
  return new PredictionStore((publish) => publish());
}

function makeFiles(count: number): File[] {
  return Array.from({ length: count }, (_, number) => new File(["x"], `${number}.png`));
}

/** Ids as version 7 makes them: a later number sorts after an earlier one. */
function makeId(number: number): string {
  return `019a0c5e-0000-7000-8000-${String(number).padStart(12, "0")}`;
}

function makeHistory(from: number, to: number): Prediction[] {
  return Array.from({ length: from - to + 1 }, (_, step) => ({ ...succeeded, id: makeId(from - step) }));
}

describe("merging what is known of one prediction", () => {
  test("a late queued answer never overwrites an outcome", () => {
    expect(merge(succeeded, queued)).toBe(succeeded);
  });

  test("a late queued answer never overwrites a running status", () => {
    const claimedAtOnce = { ...running, started_at: queued.timestamp };
    expect(merge(claimedAtOnce, queued)).toBe(claimedAtOnce);
  });

  test("an outcome counts even when running was never seen", () => {
    expect(merge(queued, succeeded)).toBe(succeeded);
  });

  test("an outcome counts even when a later attempt has been claimed", () => {
    const secondAttempt = { ...running, started_at: "2026-11-24T08:16:31Z" };
    expect(merge(secondAttempt, succeeded)).toBe(succeeded);
    expect(merge(succeeded, secondAttempt)).toBe(succeeded);
  });

  test("of two running ones, the later claim counts, with or without a fraction of a second", () => {
    const later = { ...running, started_at: "2026-11-24T08:15:31.5Z" };
    expect(merge(running, later)).toBe(later);
    expect(merge(later, running)).toBe(later);
  });
});

describe("uploads", () => {
  test("an answer that comes after the event with the outcome leaves the card at its outcome", () => {
    const store = makeStore();
    const [upload] = store.addUploads(makeFiles(1));
    store.receive(succeeded);
    store.accept(upload?.key ?? 0, queued);
    expect(store.getSnapshot().cards[0]?.prediction).toBe(succeeded);
  });

  test("newer uploads come first, and files chosen together keep their order", () => {
    const store = makeStore();
    store.addUploads([new File([], "old.png")]);
    store.addUploads([new File([], "a.png"), new File([], "b.png")]);
    const names = store.getSnapshot().cards.map(({ upload }) => upload.file.name);
    expect(names).toEqual(["a.png", "b.png", "old.png"]);
  });

  test("past the cards, finished uploads are let go and refused ones are still listed", () => {
    const revoke = vi.spyOn(URL, "revokeObjectURL");
    const store = makeStore();
    const uploads = store.addUploads(makeFiles(MAX_CARDS + 3));
    const [finished, refused] = uploads.slice(MAX_CARDS);
    store.accept(finished?.key ?? 0, succeeded);
    store.setStage(refused?.key ?? 0, { at: "refused", problem: new ApiProblem(415, "No", "image") });
    const { cards, further } = store.getSnapshot();
    expect(cards).toHaveLength(MAX_CARDS);
    expect(further.unfinished).toBe(1);
    expect(further.refused.map(({ key }) => key)).toEqual([refused?.key]);
    expect(revoke).toHaveBeenCalledOnce();
  });

  test("clearing keeps what is still under way", () => {
    const store = makeStore();
    const [first, second, third] = store.addUploads(makeFiles(3));
    store.accept(first?.key ?? 0, succeeded);
    store.setStage(second?.key ?? 0, { at: "refused", problem: new ApiProblem(415, "No", "image") });
    store.clearFinished();
    expect(store.getSnapshot().cards.map(({ upload }) => upload.key)).toEqual([third?.key]);
  });
});

describe("history", () => {
  test("an event that comes twice makes one entry", () => {
    const store = makeStore();
    store.receiveNewest({ results: [], next: null, previous: null });
    store.receive(succeeded, { ...succeeded });
    expect(store.getSnapshot().history).toHaveLength(1);
  });

  test("a page that was read before an event arrived does not undo the event", () => {
    const store = makeStore();
    store.receive(succeeded);
    store.receiveNewest({ results: [queued], next: null, previous: null });
    expect(store.getSnapshot().history[0]?.status).toBe("succeeded");
  });

  test("an old prediction under way waits for its page, so that the history has no gap", () => {
    const store = makeStore();
    store.receive({ ...running, id: makeId(1) });
    store.receiveNewest({ results: makeHistory(50, 27), next: "cursor", previous: null });
    expect(store.getSnapshot().history).toHaveLength(PAGE);
    const asked = store.showOlder() ?? { limit: 0 };
    expect(asked).toEqual({ limit: PAGE, cursor: "cursor" });
    store.receiveOlder(asked, { results: makeHistory(26, 2), next: null, previous: null });
    expect(store.getSnapshot().history.at(-1)?.id).toBe(makeId(3));
    expect(store.getSnapshot().hasOlder).toBe(true);
  });

  test("after a break that more than a page went by in, the history starts over", () => {
    const store = makeStore();
    store.receiveNewest({ results: makeHistory(50, 27), next: "old", previous: null });
    store.setConnection("live");
    store.setConnection("reconnecting");
    store.receive({ ...running, id: makeId(200) });
    store.receiveNewest({ results: makeHistory(199, 176), next: "new", previous: null });
    expect(store.getSnapshot().history.map(({ id }) => id)).not.toContain(makeId(50));
    expect(store.showOlder()).toEqual({ limit: PAGE, cursor: "new" });
  });

  test("an older page that comes after the history has started over leaves no gap", () => {
    const store = makeStore();
    store.receiveNewest({ results: makeHistory(50, 27), next: "old", previous: null });
    const asked = store.showOlder() ?? { limit: 0 };
    store.setConnection("live");
    store.setConnection("reconnecting");
    store.receiveNewest({ results: makeHistory(199, 176), next: "new", previous: null });
    store.receiveOlder(asked, { results: makeHistory(26, 3), next: "older", previous: null });
    expect(store.getSnapshot().history.at(-1)?.id).toBe(makeId(176));
    expect(store.showOlder()).toEqual({ limit: PAGE, cursor: "new" });
  });

  test("after a short break the older pages stay", () => {
    const store = makeStore();
    store.receiveNewest({ results: makeHistory(50, 27), next: "old", previous: null });
    store.receiveNewest({ results: makeHistory(52, 29), next: "new", previous: null });
    expect(store.showOlder()).toEqual({ limit: PAGE, cursor: "old" });
  });

  test("a flood of events is forgotten beyond what shows, and can be read again", () => {
    const store = makeStore();
    store.receiveNewest({ results: makeHistory(50, 27), next: "old", previous: null });
    store.receive(...makeHistory(2000, 51));
    expect(store.getSnapshot().history[0]?.id).toBe(makeId(2000));
    store.showOlder();
    const request = store.showOlder();
    expect(request).toEqual({ limit: 2 * PAGE, to: "2026-11-24T08:15:30.124Z" });
  });
});
