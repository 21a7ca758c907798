import { beforeAll, describe, expect, test, vi } from "vitest";
import { ApiProblem, type Prediction, type PredictionPage } from "./api";
import { makeId, makePrediction } from "./prediction.fixture";
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

function makeHistory(from: number, to: number): Prediction[] {
  return Array.from({ length: from - to + 1 }, (_, step) => ({ ...succeeded, id: makeId(from - step) }));
}

function makePage(from: number, to: number, next: string | null): PredictionPage {
  return { results: makeHistory(from, to), next, previous: null };
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
    store.accept(upload?.key ?? "", queued);
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
    store.accept(finished?.key ?? "", succeeded);
    store.setStage(refused?.key ?? "", { at: "refused", problem: new ApiProblem(415, "No", "image") });
    const { cards, further } = store.getSnapshot();
    expect(cards).toHaveLength(MAX_CARDS);
    expect(further.unfinished).toBe(1);
    expect(further.refused.map(({ key }) => key)).toEqual([refused?.key]);
    expect(revoke).toHaveBeenCalledOnce();
  });

  test("clearing keeps what is still under way, and what may go through when it is tried again", () => {
    const store = makeStore();
    const [first, second, third, fourth, fifth] = store.addUploads(makeFiles(5));
    store.accept(first?.key ?? "", succeeded);
    store.setStage(second?.key ?? "", { at: "refused", problem: new ApiProblem(415, "No", "image") });
    store.setStage(third?.key ?? "", { at: "refused", problem: new ApiProblem(503, "Not", "now") });
    store.accept(fifth?.key ?? "", { ...queued, id: makeId(5) });
    store.clearFinished();
    const kept = store.getSnapshot().cards.map(({ upload }) => upload.key);
    expect(kept).toEqual([third?.key, fourth?.key, fifth?.key]);
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
    store.receiveNewest(makePage(50, 27, "cursor"));
    expect(store.getSnapshot().history).toHaveLength(PAGE);
    const asked = store.showOlder() ?? { limit: 0 };
    expect(asked).toEqual({ limit: PAGE, cursor: "cursor" });
    store.receiveOlder(asked, makePage(26, 2, null));
    expect(store.getSnapshot().history.at(-1)?.id).toBe(makeId(3));
    expect(store.getSnapshot().hasOlder).toBe(true);
  });

  test("an older page that comes after the history has started over leaves no gap", () => {
    const store = makeStore();
    store.receiveNewest(makePage(50, 27, "old"));
    const asked = store.showOlder() ?? { limit: 0 };
    store.receiveNewest(makePage(199, 176, "new"));
    store.receiveOlder(asked, makePage(26, 3, "older"));
    expect(store.getSnapshot().history.at(-1)?.id).toBe(makeId(176));
    expect(store.showOlder()).toEqual({ limit: PAGE, cursor: "new" });
  });

  test("a flood of events is forgotten beyond what shows, and can be read again", () => {
    const store = makeStore();
    store.receiveNewest(makePage(50, 27, "old"));
    store.receive(...makeHistory(2000, 51));
    expect(store.getSnapshot().history[0]?.id).toBe(makeId(2000));
    store.showOlder();
    const request = store.showOlder();
    expect(request).toEqual({ limit: 2 * PAGE, to: "2026-11-24T08:15:30.124Z" });
  });
});

describe("the history after a break in the stream", () => {
  const isRestarted = (store: PredictionStore) => store.showOlder()?.cursor === "new";

  /** Has read 50 to 27 when its stream was live. */
  function makeLiveStore() {
    const store = makeStore();
    store.setConnection("live");
    store.receiveNewest(makePage(50, 27, "old"));
    return store;
  }

  function reconnect(store: PredictionStore) {
    store.setConnection("reconnecting");
    store.setConnection("live");
  }

  test("goes on from the older pages, if the newest one reaches what was known", () => {
    const store = makeLiveStore();
    reconnect(store);
    store.receiveNewest(makePage(73, 50, "new"));
    expect(isRestarted(store)).toBe(false);
  });

  test("goes on from a newest page that was read before the stream first opened", () => {
    const store = makeStore();
    store.receiveNewest(makePage(50, 27, "old"));
    store.setConnection("live");
    store.receiveNewest(makePage(52, 29, "new"));
    expect(store.showOlder()).toEqual({ limit: PAGE, cursor: "old" });
  });

  test("starts over, if the newest page does not reach that", () => {
    const store = makeLiveStore();
    reconnect(store);
    store.receiveNewest(makePage(75, 52, "new"));
    expect(isRestarted(store)).toBe(true);
    expect(store.getSnapshot().history.at(-1)?.id).toBe(makeId(52));
  });

  test("has all that the stream told before the break", () => {
    const store = makeLiveStore();
    store.receive(...makeHistory(60, 51));
    reconnect(store);
    store.receiveNewest(makePage(83, 60, "new"));
    expect(isRestarted(store)).toBe(false);
  });

  test("does not take for complete what it knows of the time of the break", () => {
    const store = makeLiveStore();
    store.setConnection("reconnecting");
    store.receive({ ...running, id: makeId(200) }); // an upload of this page
    store.setConnection("live");
    store.receiveNewest(makePage(199, 176, "new"));
    expect(isRestarted(store)).toBe(true);
  });

  test("does not take for complete what a stream told that was not caught up with", () => {
    const store = makeLiveStore();
    reconnect(store); // and the newest page cannot be read
    store.receive(...makeHistory(210, 200));
    reconnect(store);
    store.receiveNewest(makePage(223, 200, "new"));
    expect(isRestarted(store)).toBe(true);
    expect(store.getSnapshot().history.map(({ id }) => id)).not.toContain(makeId(50));
  });

  test("reads again what had not ended further down, and drops what is gone", () => {
    const store = makeLiveStore();
    const asked = store.showOlder() ?? { limit: 0 };
    store.receiveOlder(asked, makePage(26, 3, null));
    store.receive({ ...running, id: makeId(2) }, { ...queued, id: makeId(1) });
    reconnect(store);
    store.receiveNewest(makePage(52, 29, "new"));
    const again = store.showOlder() ?? { limit: 0 };
    expect(again).toEqual({ limit: PAGE, cursor: "new" });
    store.receiveOlder(again, makePage(28, 2, null)); // 1 was removed
    store.showOlder();
    const { history } = store.getSnapshot();
    expect(history.map(({ id, status }) => [id, status]).at(-1)).toEqual([makeId(2), "succeeded"]);
  });

  test("has what the newest page has, and no more, once it starts over", () => {
    const store = makeLiveStore();
    const asked = store.showOlder() ?? { limit: 0 };
    store.receiveOlder(asked, makePage(26, 3, null));
    store.startOver();
    store.receive({ ...queued, id: makeId(60) }); // told after the event `reload`
    const page = makePage(52, 28, "new");
    const results = page.results.filter(({ id }) => id !== makeId(40)); // which was removed
    store.receiveNewest({ ...page, results });
    const known = store.getSnapshot().history.map(({ id }) => id);
    expect(known).toEqual([makeId(60), ...results.map(({ id }) => id)].slice(0, PAGE));
    expect(isRestarted(store)).toBe(true);
  });

  test("believes the newest page once it starts over, also that an outcome is gone", () => {
    const store = makeLiveStore();
    store.startOver();
    store.receiveNewest({ results: [{ ...queued, id: makeId(50) }], next: null, previous: null });
    expect(store.getSnapshot().history.map(({ id, status }) => [id, status])).toEqual([
      [makeId(50), "queued"],
    ]);
  });

  test("is empty, if it starts over and nothing is stored", () => {
    const store = makeLiveStore();
    store.startOver();
    store.receiveNewest({ results: [], next: null, previous: null });
    expect(store.getSnapshot().history).toEqual([]);
    expect(store.getSnapshot().hasOlder).toBe(false);
  });

  test("keeps the predictions of this page's uploads, however old", () => {
    const store = makeLiveStore();
    const [upload] = store.addUploads(makeFiles(1));
    store.accept(upload?.key ?? "", { ...running, id: makeId(20) });
    reconnect(store);
    store.receiveNewest(makePage(99, 76, "new"));
    expect(store.getSnapshot().cards[0]?.prediction?.id).toBe(makeId(20));
    expect(store.unfinishedUploads()).toEqual([makeId(20)]);
  });
});
