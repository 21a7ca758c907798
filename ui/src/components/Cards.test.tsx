import { act, cleanup, render, screen } from "@testing-library/react";
import { useSyncExternalStore } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiProblem } from "../api";
import { makePrediction } from "../prediction.fixture";
import { MAX_CARDS, PredictionStore } from "../predictions";
import type { Upload } from "../upload-list";
import { UploadQueue } from "../uploads";
import { UploadView } from "./UploadView";

let store: PredictionStore;

beforeEach(() => {
  URL.createObjectURL = () => "blob:preview";
  URL.revokeObjectURL = () => {};
  store = new PredictionStore((publish) => publish());
  const queue = new UploadQueue(store, vi.fn());
  const Shown = () => (
    <UploadView
      store={store}
      snapshot={useSyncExternalStore(store.subscribe, store.getSnapshot)}
      queue={queue}
    />
  );
  render(<Shown />);
});

afterEach(cleanup);

function add(count: number, settle: (upload: Upload) => void) {
  const files = Array.from({ length: count }, (_, number) => new File(["x"], `${number}.png`));
  act(() => store.addUploads(files).forEach(settle));
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

test("once the last card is cleared, the focus is where the next images are chosen", async () => {
  add(1, ({ key }) => store.accept(key, makePrediction({ status: "succeeded" })));
  await clear();
  expect(screen.queryByRole("heading", { name: "Your uploads" })).toBeNull();
  expect(document.activeElement).toBe(screen.getByLabelText("Choose images"));
});

test("an upload that may go through later stays when the finished go, until it is dismissed", async () => {
  add(1, ({ key }) =>
    store.setStage(key, {
      at: "refused",
      problem: new ApiProblem(503, "The database is away", "Try again."),
    }),
  );
  await clear();
  screen.getByText("The database is away");
  const button = screen.getByRole("button", { name: "Dismiss" });
  button.focus();
  await act(async () => button.click());
  expect(screen.queryByText("The database is away")).toBeNull();
  expect(document.activeElement).toBe(screen.getByLabelText("Choose images"));
});

test("of many that are refused, the count says how many are not listed", () => {
  add(2 * MAX_CARDS + 7, refuse);
  screen.getByText(`${MAX_CARDS + 7} more could not be uploaded`);
  screen.getByText("and 7 others");
});
