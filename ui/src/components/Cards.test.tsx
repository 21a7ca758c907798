import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiProblem } from "../api";
import { makeFiles, makePrediction } from "../prediction.fixture";
import { MAX_CARDS, PredictionStore } from "../predictions";
import type { Upload } from "../upload-list";
import { UploadQueue } from "../upload-queue";
import { UploadView } from "./UploadView";
import { useStore } from "./use-store";

let store: PredictionStore;

beforeEach(() => {
  URL.createObjectURL = () => "blob:preview";
  URL.revokeObjectURL = () => {};
  store = new PredictionStore((publish) => publish());
  const queue = new UploadQueue(store, vi.fn());
  const Shown = () => <UploadView store={store} snapshot={useStore(store)} queue={queue} />;
  render(<Shown />);
});

afterEach(cleanup);

function add(count: number, settle: (upload: Upload) => void) {
  act(() => store.addUploads(makeFiles(count)).forEach(settle));
}

const refuse = ({ key }: Upload) =>
  store.setStage(key, {
    at: "refused",
    problem: new ApiProblem(415, "Not a supported image", "Convert it."),
  });

async function clear() {
  const button = screen.getByRole("button", { name: "Clear finished" });
  button.focus();
  await act(async () => button.click());
}

test("when the last card is cleared, the focus moves to the file input", async () => {
  add(1, ({ key }) => store.accept(key, makePrediction({ status: "succeeded" })));
  await clear();
  expect(screen.queryByRole("heading", { name: "Your uploads" })).toBeNull();
  expect(document.activeElement).toBe(screen.getByLabelText("Choose images"));
});

test("clearing keeps an upload that can be retried, until it is dismissed", async () => {
  add(1, ({ key }) =>
    store.setStage(key, {
      at: "refused",
      problem: new ApiProblem(503, "Database unavailable", "Try again."),
    }),
  );
  await clear();
  screen.getByText("Database unavailable");
  const button = screen.getByRole("button", { name: "Dismiss" });
  button.focus();
  await act(async () => button.click());
  expect(screen.queryByText("Database unavailable")).toBeNull();
  expect(document.activeElement).toBe(screen.getByLabelText("Choose images"));
});

test("a long list of refused uploads says how many it leaves out", () => {
  add(2 * MAX_CARDS + 7, refuse);
  screen.getByText(`${MAX_CARDS + 7} more could not be uploaded`);
  screen.getByText("and 7 others");
});
