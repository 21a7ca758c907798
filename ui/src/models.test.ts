import { expect, test } from "vitest";
import { isAwaited, ModelStore } from "./models";
import { makeModel } from "./training.fixture";

test("an answer that a later one has overtaken is dropped", () => {
  const store = new ModelStore();
  const [first, second] = [store.ask(), store.ask()];
  store.receive(second, [makeModel({ active: true })]);
  store.receive(first, [makeModel()]);
  expect(store.getSnapshot().models[0]?.active).toBe(true);
});

test.each([
  ["served since it was activated", { active: true }, false],
  ["never served", { active: true, served_at: null }, true],
  ["last served before it was activated again", { active: true, activated_at: "2026-11-25T00:00:00Z" }, true],
  ["not the active one", { served_at: null }, false],
])("whether a model is awaited: %s", (_, members, awaited) => {
  expect(isAwaited(makeModel(members))).toBe(awaited);
});
