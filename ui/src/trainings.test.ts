import { describe, expect, test } from "vitest";
import { ApiProblem, type Epoch } from "./api";
import { makeEpoch, makeTraining, makeTrainingId } from "./training.fixture";
import { addEpoch, chooseShown, RECENT, TrainingStore } from "./trainings";

const queued = makeTraining();
const running = makeTraining({ status: "running", phase: "reading" });
const canceled = makeTraining({ status: "canceled", completed_at: "2026-11-24T08:21:00Z" });

describe("the shown run", () => {
  const ended = { ...canceled, id: makeTrainingId(5) };
  const last = { ...queued, id: makeTrainingId(4) };
  const next = { ...queued, id: makeTrainingId(3) };
  const first = { ...running, id: makeTrainingId(2) };

  test("is the selected one, else the running one, else the oldest queued one, else the newest one", () => {
    expect(chooseShown([ended, last, next, first], last.id)).toBe(last);
    expect(chooseShown([ended, last, next, first], null)).toBe(first);
    expect(chooseShown([ended, last, next], null)).toBe(next);
    expect(chooseShown([ended, canceled], null)).toBe(ended);
    expect(chooseShown([], null)).toBeNull();
  });
});

describe("a curve", () => {
  const numbers = (curve: readonly { number: number }[]) => curve.map(({ number }) => number);

  test("has each epoch once and in order, even if a stream repeats all of them", () => {
    let curve: readonly Epoch[] = [makeEpoch(1), makeEpoch(2)];
    for (const number of [1, 2, 3]) curve = addEpoch(curve, makeEpoch(number));
    expect(numbers(curve)).toEqual([1, 2, 3]);
  });
});

describe("the store", () => {
  test("lists runs newest first, with the curve of the shown run", () => {
    const store = new TrainingStore();
    store.receive(running);
    store.receive({ ...queued, id: makeTrainingId(2) });
    store.receiveEpoch(running.id, makeEpoch(1));
    expect(store.getSnapshot().trainings.map(({ id }) => id)).toEqual([makeTrainingId(2), running.id]);
    expect(store.getSnapshot().curve).toEqual([makeEpoch(1)]);
    store.select(makeTrainingId(2));
    expect(store.getSnapshot().curve).toEqual([]);
  });

  test("does not replace an event by a page that was requested before the event", () => {
    const store = new TrainingStore();
    store.receive(queued);
    const revision = store.getRevision();
    store.receive(running);
    store.receivePage(revision, { results: [queued], next: null });
    expect(store.getSnapshot().shown).toBe(running);
    // A worker that stopped has returned the run to the queue.
    store.receivePage(store.getRevision(), { results: [queued], next: null });
    expect(store.getSnapshot().shown).toBe(queued);
  });

  test("never replaces a terminal status", () => {
    const store = new TrainingStore();
    store.receive(canceled);
    store.receive(running);
    expect(store.getSnapshot().shown).toBe(canceled);
  });

  describe("while nothing is selected", () => {
    const waiting = { ...queued, id: makeTrainingId(2) };

    function makeStore() {
      const store = new TrainingStore();
      store.receivePage(store.getRevision(), { results: [waiting, running], next: null });
      return store;
    }

    test("keeps showing the run when it ends, although another run is queued", () => {
      const store = makeStore();
      store.receive(canceled);
      expect(store.getSnapshot().shown).toBe(canceled);
    });

    test("keeps showing the run when a page reports its end", () => {
      const store = makeStore();
      const next = { ...waiting, status: "running" as const };
      store.receivePage(store.getRevision(), { results: [next, canceled], next: null });
      expect(store.getSnapshot().shown).toBe(canceled);
    });

    test("shows a new queued run instead of a run that was already ended when received", () => {
      const store = new TrainingStore();
      store.receive(canceled);
      store.receivePage(store.getRevision(), { results: [canceled], next: null });
      store.receive(waiting);
      expect(store.getSnapshot().shown).toBe(waiting);
    });
  });

  test("keeps the problem of a curve until the curve is read, and shows it only with its run", () => {
    const store = new TrainingStore();
    const problem = new ApiProblem(503, "Database unavailable", "Try again.");
    const shownProblem = () => store.getSnapshot().curveProblem;
    store.receive(canceled);
    store.setCurveProblem(canceled.id, problem);
    store.receivePage(store.getRevision(), { results: [canceled], next: null });
    expect(shownProblem()).toBe(problem);
    store.receive({ ...queued, id: makeTrainingId(2) });
    store.select(makeTrainingId(2));
    expect(shownProblem()).toBeNull();
    store.select(canceled.id);
    expect(shownProblem()).toBe(problem);
    store.setCurve(canceled.id, [makeEpoch(1)]);
    expect(shownProblem()).toBeNull();
  });

  test("keeps the recent runs and the shown run", () => {
    const store = new TrainingStore();
    store.receive(canceled);
    store.select(canceled.id);
    for (let number = 2; number < RECENT + 9; number++) {
      store.receive({ ...canceled, id: makeTrainingId(number) });
    }
    expect(store.getSnapshot().trainings).toHaveLength(RECENT);
    expect(store.getSnapshot().shown).toBe(canceled);
  });
});
