import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { makeId, makePrediction } from "./prediction.fixture";
import { cancelOrDelete, catchUp, readOlder, saveFeedback } from "./prediction-requests";
import { PredictionStore } from "./predictions";

const queued = makePrediction();
const succeeded = makePrediction({ status: "succeeded", completed_at: "2026-11-24T08:15:32Z" });
const address = queued.urls.self;
const newest = "GET /api/predictions?limit=24";

const unavailable = { title: "Database unavailable", detail: "Try again." };
const unknown = { title: "Unknown prediction", detail: "No such id." };
const empty = { results: [], next: null, previous: null };

let store: PredictionStore;
let asked: string[];
let answers: Record<string, () => Response>;

beforeEach(() => {
  URL.createObjectURL = () => "blob:preview";
  URL.revokeObjectURL = () => {};
  store = new PredictionStore((publish) => publish());
  asked = [];
  answers = { [newest]: () => Response.json(empty) };
  vi.stubGlobal("fetch", async (url: string, init?: RequestInit) => {
    const request = `${init?.method ?? "GET"} ${url}`;
    asked.push(request);
    return answers[request]?.() ?? Response.error();
  });
});

afterEach(() => vi.unstubAllGlobals());

const refuse = (status: number, body: object) => () => Response.json(body, { status });
const statuses = () => store.getSnapshot().history.map(({ status }) => status);
const problems = () => store.getSnapshot().historyProblems;

function addAcceptedUpload() {
  const [upload] = store.addUploads([new File(["x"], "cat.png")]);
  store.accept(upload?.key ?? "", queued);
}

describe("catching up", () => {
  test("reads the newest page of the history, and the unfinished uploads of this tab", async () => {
    addAcceptedUpload();
    answers[`GET ${address}`] = () => Response.json(succeeded);
    await catchUp(store);
    expect(asked).toEqual([newest, `GET ${address}`]);
    expect(store.getSnapshot().cards[0]?.prediction?.status).toBe("succeeded");
  });

  test("removes an upload whose prediction was deleted", async () => {
    addAcceptedUpload();
    answers[`GET ${address}`] = refuse(404, unknown);
    await catchUp(store);
    expect(store.getSnapshot().cards).toEqual([]);
    expect(statuses()).toEqual([]);
    expect(problems().newest).toBeNull();
  });

  test("shows a problem until everything has been read", async () => {
    addAcceptedUpload();
    answers[`GET ${address}`] = refuse(503, unavailable);
    await catchUp(store);
    expect(problems()).toMatchObject({ newest: unavailable, older: null });
    expect(store.getSnapshot().cards).toHaveLength(1);

    answers[newest] = refuse(503, unavailable);
    await catchUp(store);
    expect(problems().newest).toMatchObject(unavailable);

    answers = { [newest]: () => Response.json(empty), [`GET ${address}`]: () => Response.json(succeeded) };
    await catchUp(store);
    expect(problems().newest).toBeNull();
  });
});

test("an older page that cannot be read has its own problem, until it has been read", async () => {
  const older = "GET /api/predictions?limit=24&cursor=c";
  store.receiveNewest({ results: [succeeded], next: "c", previous: null });
  answers[older] = refuse(503, unavailable);
  await readOlder(store);
  expect(problems()).toMatchObject({ newest: null, older: unavailable });

  answers[older] = () => Response.json({ ...empty, results: [{ ...succeeded, id: makeId(1) }] });
  await readOlder(store);
  expect(problems().older).toBeNull();
  expect(statuses()).toHaveLength(2);
});

describe("canceling", () => {
  beforeEach(() => store.receiveNewest({ ...empty, results: [queued] }));

  test("shows the outcome of a prediction that had already ended", async () => {
    answers[`POST ${address}/cancel`] = refuse(409, {
      title: "The prediction has ended",
      detail: "It succeeded.",
    });
    answers[`GET ${address}`] = () => Response.json(succeeded);
    await cancelOrDelete(store, queued);
    expect(statuses()).toEqual(["succeeded"]);
  });

  test("removes a prediction that had already ended and was then deleted", async () => {
    answers[`POST ${address}/cancel`] = refuse(409, {
      title: "The prediction has ended",
      detail: "It succeeded.",
    });
    answers[`GET ${address}`] = refuse(404, unknown);
    await cancelOrDelete(store, queued);
    expect(statuses()).toEqual([]);
  });

  test("throws any other problem", async () => {
    answers[`POST ${address}/cancel`] = refuse(503, unavailable);
    await expect(cancelOrDelete(store, queued)).rejects.toMatchObject(unavailable);
    expect(statuses()).toEqual(["queued"]);
  });
});

test("feedback on a prediction that was deleted elsewhere removes it from the page", async () => {
  store.receiveNewest({ ...empty, results: [succeeded] });
  answers[`PUT ${address}/feedback`] = refuse(404, unknown);
  await saveFeedback(store, succeeded, "dog");
  expect(statuses()).toEqual([]);
});
