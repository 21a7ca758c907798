import { beforeAll, expect, test, vi } from "vitest";
import { ApiProblem, type Prediction } from "./api";
import { makePrediction } from "./prediction.fixture";
import { PredictionStore } from "./predictions";
import { UploadQueue } from "./uploads";

beforeAll(() => {
  URL.createObjectURL = () => "blob:preview";
});

type Sent = { file: File; answer: (prediction: Prediction) => void; refuse: (error: unknown) => void };

function makeQueue() {
  const sent: Sent[] = [];
  const store = new PredictionStore((publish) => publish());
  const send = (file: File) =>
    new Promise<Prediction>((answer, refuse) => {
      sent.push({ file, answer, refuse });
    });
  return { store, sent, queue: new UploadQueue(store, send) };
}

function makeFiles(count: number): File[] {
  return Array.from({ length: count }, (_, number) => new File(["x"], `${number}.png`));
}

test("at most four uploads are in flight, and each that ends lets the next one go", async () => {
  const { sent, queue } = makeQueue();
  queue.add(makeFiles(6));
  expect(sent).toHaveLength(4);
  sent[0]?.answer(makePrediction());
  await vi.waitFor(() => expect(sent).toHaveLength(5));
  sent[1]?.refuse(new ApiProblem(415, "Not a supported image", "Convert it."));
  await vi.waitFor(() => expect(sent).toHaveLength(6));
});

test("a refused upload says why, and goes through when it is tried again", async () => {
  const { store, sent, queue } = makeQueue();
  queue.add(makeFiles(1));
  sent[0]?.refuse(new ApiProblem(429, "Too many predictions are waiting", "Try again in a few seconds."));
  const stage = () => store.getSnapshot().cards[0]?.upload.stage;
  await vi.waitFor(() => expect(stage()).toMatchObject({ at: "refused", problem: { status: 429 } }));
  const refused = store.getSnapshot().cards[0]?.upload;
  if (refused) queue.tryAgain([refused]);
  sent[1]?.answer(makePrediction());
  await vi.waitFor(() => expect(stage()?.at).toBe("accepted"));
});
