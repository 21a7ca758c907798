import { act, cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, expect, test, vi } from "vitest";
import { ApiProblem, type Model } from "../api";
import { ModelStore } from "../models";
import { makeModel } from "../training.fixture";
import { ModelList } from "./ModelList";
import { useStore } from "./use-store";

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show(...models: Model[]) {
  const store = new ModelStore();
  store.receive(store.nextRequest(), models);
  const Shown = () => <ModelList store={store} snapshot={useStore(store)} />;
  render(<Shown />);
  return store;
}

const names = ["learning-curve", "confusion", "reliability", "mistakes"];
const pictures = names.map((name) => ({ name, url: `/api/models/v/pictures/${name}` }));

test("a model shows its figures, and the active model has a mark and no button", () => {
  show(makeModel({ version: "new" }), makeModel({ version: "old", active: true }));
  const [first, second] = screen.getAllByRole("article");
  expect(first?.textContent).toContain("Accuracy94.12%");
  expect(first?.textContent).toContain("Calibration error1.67%");
  expect(first?.textContent).toContain("Recipefast");
  expect(within(second as HTMLElement).getByText("Active").className).toBe("badge");
  expect(screen.getAllByRole("button").map((button) => button.getAttribute("aria-label"))).toEqual([
    "Activate new",
  ]);
});

test("a refused model with an empty card shows the reason, but no button and no figures", () => {
  const empty = { accuracy: null, calibration_error: null, training: null, data: null, classes: null };
  show(makeModel({ error: "Its weights are cut short.", ...empty }));
  screen.getByText("Its weights are cut short.");
  expect(screen.queryByRole("button")).toBeNull();
  expect(screen.getAllByRole("term").map((term) => term.textContent)).toEqual(["Found"]);
});

test("an activation that fails shows the problem's detail", async () => {
  const asked = vi.fn(async () =>
    Response.json({ title: "The model cannot be served", detail: "The file has changed." }, { status: 409 }),
  );
  vi.stubGlobal("fetch", asked);
  show(makeModel({ version: "v" }));
  fireEvent.click(screen.getByRole("button", { name: "Activate v" }));
  expect((await screen.findByRole("alert")).textContent).toContain("The file has changed.");
  expect(asked).toHaveBeenCalledExactlyOnceWith("/api/models/v/activate", { method: "POST" });
});

test("an activated model shows that no worker serves it yet, and its name gets the focus", async () => {
  const activated = makeModel({ version: "v", active: true, served_at: null });
  vi.stubGlobal("fetch", async (_: string, init?: RequestInit) =>
    Response.json(init?.method === "POST" ? activated : { results: [activated] }),
  );
  show(makeModel({ version: "v" }));
  const button = screen.getByRole("button", { name: "Activate v" });
  button.focus();
  await act(async () => button.click());
  expect(screen.getByText("Active, but no worker serves it yet").className).toBe("badge");
  expect(screen.queryByRole("button")).toBeNull();
  expect(document.activeElement).toBe(screen.getByRole("heading", { name: "v" }));
});

test("models that could not be read can be read again, and the focus moves to the heading", async () => {
  vi.stubGlobal("fetch", async () => Response.json({ results: [makeModel({ version: "v" })] }));
  const store = show();
  act(() => store.setProblem(store.nextRequest(), new ApiProblem(503, "Database unavailable", "Try again.")));
  const button = screen.getByRole("button", { name: "Try again" });
  button.focus();
  await act(async () => button.click());
  screen.getByRole("heading", { name: "v" });
  expect(document.activeElement).toBe(screen.getByRole("heading", { name: "Models" }));
});

test("a model's pictures are fetched when the user opens them, and a missing one is not shown", () => {
  show(makeModel({ pictures }));
  expect(screen.queryAllByRole("img")).toEqual([]);
  const details = screen.getByText("Pictures").closest("details") as HTMLDetailsElement;
  details.open = true;
  fireEvent(details, new Event("toggle"));
  const images = screen.getAllByRole("img");
  expect(images.map((image) => [image.getAttribute("src"), image.getAttribute("loading")])).toEqual(
    pictures.map(({ url }) => [url, "lazy"]),
  );
  for (const image of images) expect(image.getAttribute("alt")).toBeTruthy();
  fireEvent.error(images[0] as HTMLElement);
  expect(screen.getAllByRole("img")).toHaveLength(3);
});

test("the active model is shown even if the list is shortened", () => {
  const models = Array.from({ length: 9 }, (_, place) =>
    makeModel({ version: `v${place}`, active: place === 8 }),
  );
  show(...models);
  expect(screen.getByRole("article", { name: /v8/ })).toBeTruthy();
  expect(screen.getAllByRole("article")).toHaveLength(7); // the first six, and the active one
  fireEvent.click(screen.getByRole("button", { name: "Show all 9 models" }));
  expect(screen.getAllByRole("article")).toHaveLength(9);
});
