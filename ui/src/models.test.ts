import { expect, test } from "vitest";
import { ApiProblem } from "./api";
import { isActivationPending, ModelStore } from "./models";
import { makeModel } from "./training.fixture";

test("a response is ignored if the response of a later request has arrived", () => {
  const store = new ModelStore();
  const [first, second] = [store.nextRequest(), store.nextRequest()];
  store.receive(second, [makeModel({ active: true })]);
  store.receive(first, [makeModel()]);
  expect(store.getSnapshot().models[0]?.active).toBe(true);
});

test("the problem of an earlier request is ignored if the response of a later one has arrived", () => {
  const store = new ModelStore();
  const [first, second] = [store.nextRequest(), store.nextRequest()];
  store.receive(second, [makeModel()]);
  store.setProblem(first, new ApiProblem(503, "Database unavailable", "Try again."));
  expect(store.getSnapshot().problem).toBeNull();
});

test.each([
  ["served since its activation", { active: true }, false],
  ["never served", { active: true, served_at: null }, true],
  ["last served before its latest activation", { active: true, activated_at: "2026-11-25T00:00:00Z" }, true],
  ["not the active one", { served_at: null }, false],
])("whether the activation of a model is pending: %s", (_, members, pending) => {
  expect(isActivationPending(makeModel(members))).toBe(pending);
});
