import { beforeAll, describe, expect, test, vi } from "vitest";
import { ApiProblem, type Prediction, type PredictionPage } from "./api";
import { makeFiles, makeId, makePrediction } from "./prediction.fixture";
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

function makeHistory(from: number, to: number): Prediction[] {
  return Array.from({ length: from - to + 1 }, (_, step) => ({ ...succeeded, id: makeId(from - step) }));
}

function makePage(from: number, to: number, next: string | null): PredictionPage {
  return { results: makeHistory(from, to), next, previous: null };
}

describe("merging two copies of one prediction", () => {
  test("a late queued response never replaces an outcome", () => {
    expect(merge(succeeded, queued)).toBe(succeeded);
  });

  test("a late queued response never replaces running", () => {
    const claimedImmediately = { ...running, started_at: queued.timestamp };
    expect(merge(claimedImmediately, queued)).toBe(claimedImmediately);
  });

  test("an outcome replaces queued, without running in between", () => {
    expect(merge(queued, succeeded)).toBe(succeeded);
  });

  test("an outcome is kept even if a later attempt has started", () => {
    const secondAttempt = { ...running, started_at: "2026-11-24T08:16:31Z" };
    expect(merge(secondAttempt, succeeded)).toBe(succeeded);
    expect(merge(succeeded, secondAttempt)).toBe(succeeded);
  });

  test("the later of two starts is kept, with or without a fraction of a second", () => {
    const later = { ...running, started_at: "2026-11-24T08:15:31.5Z" };
    expect(merge(running, later)).toBe(later);
    expect(merge(later, running)).toBe(later);
  });
});

describe("uploads", () => {
  test("a response that arrives after the event with the outcome does not replace the outcome", () => {
    const store = makeStore();
    const [upload] = store.addUploads(makeFiles(1));
    store.receive(succeeded);
    store.accept(upload?.key ?? "", queued);
    expect(store.getSnapshot().cards[0]?.prediction).toBe(succeeded);
  });

  test("newer uploads come first, and files that are chosen together keep their order", () => {
    const store = makeStore();
    store.addUploads([new File([], "old.png")]);
    store.addUploads([new File([], "a.png"), new File([], "b.png")]);
    const names = store.getSnapshot().cards.map(({ upload }) => upload.file.name);
    expect(names).toEqual(["a.png", "b.png", "old.png"]);
  });

  test("uploads without a card are removed when they have finished, and kept when they were refused", () => {
    const revoke = vi.spyOn(URL, "revokeObjectURL");
    const store = makeStore();
    const uploads = store.addUploads(makeFiles(MAX_CARDS + 3));
    const [finished, refused] = uploads.slice(MAX_CARDS);
    store.accept(finished?.key ?? "", succeeded);
    store.setStage(refused?.key ?? "", { at: "refused", problem: new ApiProblem(415, "No", "image") });
    const { cards, withoutCard } = store.getSnapshot();
    expect(cards).toHaveLength(MAX_CARDS);
    expect(withoutCard.unfinished).toBe(1);
    expect(withoutCard.refused.map(({ key }) => key)).toEqual([refused?.key]);
    expect(revoke).toHaveBeenCalledOnce();
  });

  test("clearing keeps unfinished uploads and those that can be retried", () => {
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
  test("an event that arrives twice makes one entry", () => {
    const store = makeStore();
    store.receiveNewest({ results: [], next: null, previous: null });
    store.receive(succeeded, { ...succeeded });
    expect(store.getSnapshot().history).toHaveLength(1);
  });

  test("a page that is older than an event does not replace it", () => {
    const store = makeStore();
    store.receive(succeeded);
    store.receiveNewest({ results: [queued], next: null, previous: null });
    expect(store.getSnapshot().history[0]?.status).toBe("succeeded");
  });

  test("an old unfinished prediction is hidden until its page is read, so that the history has no gap", () => {
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

  test("an older page is ignored if a newest page without overlap has replaced the history", () => {
    const store = makeStore();
    store.receiveNewest(makePage(50, 27, "old"));
    const asked = store.showOlder() ?? { limit: 0 };
    store.receiveNewest(makePage(199, 176, "new"));
    store.receiveOlder(asked, makePage(26, 3, "older"));
    expect(store.getSnapshot().history.at(-1)?.id).toBe(makeId(176));
    expect(store.showOlder()).toEqual({ limit: PAGE, cursor: "new" });
  });

  test("after many events, entries that are not shown are forgotten and can be read again", () => {
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
  // If the history has restarted, the request for older entries has the cursor of the newest page, "new".

  /** A store that has read predictions 50 to 27, and whose stream is live. */
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

  test("continues if the newest page overlaps the known entries", () => {
    const store = makeLiveStore();
    reconnect(store);
    store.receiveNewest(makePage(73, 50, "new"));
    expect(store.showOlder()?.cursor).not.toBe("new");
  });

  test("continues if the known page was read before the stream first opened", () => {
    const store = makeStore();
    store.receiveNewest(makePage(50, 27, "old"));
    store.setConnection("live");
    store.receiveNewest(makePage(52, 29, "new"));
    expect(store.showOlder()).toEqual({ limit: PAGE, cursor: "old" });
  });

  test("restarts if the newest page does not overlap the known entries", () => {
    const store = makeLiveStore();
    reconnect(store);
    store.receiveNewest(makePage(75, 52, "new"));
    expect(store.showOlder()?.cursor).toBe("new");
    expect(store.getSnapshot().history.at(-1)?.id).toBe(makeId(52));
  });

  test("continues if the newest page overlaps the events received before the break", () => {
    const store = makeLiveStore();
    store.receive(...makeHistory(60, 51));
    reconnect(store);
    store.receiveNewest(makePage(83, 60, "new"));
    expect(store.showOlder()?.cursor).not.toBe("new");
  });

  test("restarts after a gap, even if this tab uploaded an image during the break", () => {
    const store = makeLiveStore();
    store.setConnection("reconnecting");
    store.receive({ ...running, id: makeId(200) });
    store.setConnection("live");
    store.receiveNewest(makePage(199, 176, "new"));
    expect(store.showOlder()?.cursor).toBe("new");
  });

  test("restarts if the stream broke again before the newest page was read", () => {
    const store = makeLiveStore();
    reconnect(store); // this time the newest page is not read
    store.receive(...makeHistory(210, 200));
    reconnect(store);
    store.receiveNewest(makePage(223, 200, "new"));
    expect(store.showOlder()?.cursor).toBe("new");
    expect(store.getSnapshot().history.map(({ id }) => id)).not.toContain(makeId(50));
  });

  test("reads older unfinished entries again, and removes deleted ones", () => {
    const store = makeLiveStore();
    const asked = store.showOlder() ?? { limit: 0 };
    store.receiveOlder(asked, makePage(26, 3, null));
    store.receive({ ...running, id: makeId(2) }, { ...queued, id: makeId(1) });
    reconnect(store);
    store.receiveNewest(makePage(52, 29, "new"));
    const again = store.showOlder() ?? { limit: 0 };
    expect(again).toEqual({ limit: PAGE, cursor: "new" });
    store.receiveOlder(again, makePage(28, 2, null)); // 1 was deleted
    store.showOlder();
    const { history } = store.getSnapshot();
    expect(history.map(({ id, status }) => [id, status]).at(-1)).toEqual([makeId(2), "succeeded"]);
  });

  test("after a reload, contains the newest page and later events only", () => {
    const store = makeLiveStore();
    const asked = store.showOlder() ?? { limit: 0 };
    store.receiveOlder(asked, makePage(26, 3, null));
    store.markStale();
    store.receive({ ...queued, id: makeId(60) }); // arrives after the event `reload`
    const page = makePage(52, 28, "new");
    const results = page.results.filter(({ id }) => id !== makeId(40)); // deleted
    store.receiveNewest({ ...page, results });
    const known = store.getSnapshot().history.map(({ id }) => id);
    expect(known).toEqual([makeId(60), ...results.map(({ id }) => id)].slice(0, PAGE));
    expect(store.showOlder()?.cursor).toBe("new");
  });

  test("after a reload, the newest page replaces even an outcome", () => {
    const store = makeLiveStore();
    store.markStale();
    store.receiveNewest({ results: [{ ...queued, id: makeId(50) }], next: null, previous: null });
    expect(store.getSnapshot().history.map(({ id, status }) => [id, status])).toEqual([
      [makeId(50), "queued"],
    ]);
  });

  test("after a reload, is empty if nothing is stored", () => {
    const store = makeLiveStore();
    store.markStale();
    store.receiveNewest({ results: [], next: null, previous: null });
    expect(store.getSnapshot().history).toEqual([]);
    expect(store.getSnapshot().hasOlder).toBe(false);
  });

  test("restarts without losing the predictions that cards show", () => {
    const store = makeLiveStore();
    const [upload] = store.addUploads(makeFiles(1));
    store.accept(upload?.key ?? "", { ...running, id: makeId(20) });
    reconnect(store);
    store.receiveNewest(makePage(99, 76, "new"));
    expect(store.getSnapshot().cards[0]?.prediction?.id).toBe(makeId(20));
    expect(store.unfinishedIds()).toEqual([makeId(20)]);
  });
});
