import { beforeAll, expect, test, vi } from "vitest";
import { ApiProblem, type Prediction } from "./api";
import { makeFiles, makePrediction } from "./prediction.fixture";
import { PredictionStore } from "./predictions";
import { UploadQueue } from "./upload-queue";

beforeAll(() => {
  URL.createObjectURL = () => "blob:preview";
});

type Sent = { key: string; answer: (prediction: Prediction) => void; refuse: (error: unknown) => void };

const overloaded = new ApiProblem(429, "Too many predictions are waiting", "Try again in a few seconds.");

function makeQueue() {
  const sent: Sent[] = [];
  const store = new PredictionStore((publish) => publish());
  const send = (_: File, key: string) =>
    new Promise<Prediction>((answer, refuse) => {
      sent.push({ key, answer, refuse });
    });
  const uploads = () => store.getSnapshot().cards.map(({ upload }) => upload);
  return { uploads, sent, queue: new UploadQueue(store, send) };
}

test("at most three uploads run at a time, and the next starts when one ends", async () => {
  const { sent, queue } = makeQueue();
  queue.add(makeFiles(5));
  expect(sent).toHaveLength(3);
  sent[0]?.answer(makePrediction());
  await vi.waitFor(() => expect(sent).toHaveLength(4));
  sent[1]?.refuse(new ApiProblem(415, "Not a supported image", "Convert it."));
  await vi.waitFor(() => expect(sent).toHaveLength(5));
});

test("the queue has unanswered uploads until the last response", async () => {
  const { sent, queue } = makeQueue();
  expect(queue.hasUnanswered).toBe(false);
  queue.add(makeFiles(4));
  for (const number of [0, 1, 2, 3]) {
    expect(queue.hasUnanswered).toBe(true);
    await vi.waitFor(() => expect(sent[number]).toBeDefined());
    sent[number]?.answer(makePrediction());
  }
  await vi.waitFor(() => expect(queue.hasUnanswered).toBe(false));
});

test("a refused upload keeps its problem, and can succeed when it is retried", async () => {
  const { uploads, sent, queue } = makeQueue();
  queue.add(makeFiles(1));
  sent[0]?.refuse(overloaded);
  const stage = () => uploads()[0]?.stage;
  await vi.waitFor(() => expect(stage()).toMatchObject({ at: "refused", problem: { status: 429 } }));
  queue.retry(uploads());
  sent[1]?.answer(makePrediction());
  await vi.waitFor(() => expect(stage()?.at).toBe("accepted"));
});

test("each upload has its own idempotency key, and keeps it when it is retried", async () => {
  const { uploads, sent, queue } = makeQueue();
  queue.add(makeFiles(2));
  expect(sent[0]?.key).toMatch(/^[0-9a-f]{32}$/);
  expect(sent[1]?.key).not.toBe(sent[0]?.key);
  sent[0]?.refuse(overloaded);
  await vi.waitFor(() => expect(uploads()[0]?.stage.at).toBe("refused"));
  queue.retry(uploads());
  expect(sent.map(({ key }) => key)).toEqual([sent[0]?.key, sent[1]?.key, sent[0]?.key]);
});

test("an upload that is retried twice at the same time is sent only once more", async () => {
  const { uploads, sent, queue } = makeQueue();
  queue.add(makeFiles(1));
  sent[0]?.refuse(overloaded);
  await vi.waitFor(() => expect(uploads()[0]?.stage.at).toBe("refused"));
  const shown = uploads(); // the second click comes before the page renders again
  queue.retry(shown);
  queue.retry(shown);
  expect(sent).toHaveLength(2);
});
