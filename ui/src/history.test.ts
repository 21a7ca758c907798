import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { catchUp, correct, readOlder, withdraw } from "./history";
import { makeId, makePrediction } from "./prediction.fixture";
import { PredictionStore } from "./predictions";

const queued = makePrediction();
const succeeded = makePrediction({ status: "succeeded", completed_at: "2026-11-24T08:15:32Z" });
const place = queued.urls.self;
const newest = "GET /api/predictions?limit=24";

const away = { title: "The database is away", detail: "Try again." };
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
  vi.stubGlobal("fetch", async (address: string, init?: RequestInit) => {
    const request = `${init?.method ?? "GET"} ${address}`;
    asked.push(request);
    return answers[request]?.() ?? Response.error();
  });
});

afterEach(() => vi.unstubAllGlobals());

const refuse = (status: number, body: object) => () => Response.json(body, { status });
const known = () => store.getSnapshot().history.map(({ status }) => status);
const problems = () => store.getSnapshot().historyProblems;

function addAcceptedUpload() {
  const [upload] = store.addUploads([new File(["x"], "cat.png")]);
  store.accept(upload?.key ?? "", queued);
}

describe("catching up", () => {
  test("reads the newest page, and this page's uploads that it does not tell the end of", async () => {
    addAcceptedUpload();
    answers[`GET ${place}`] = () => Response.json(succeeded);
    await catchUp(store);
    expect(asked).toEqual([newest, `GET ${place}`]);
    expect(store.getSnapshot().cards[0]?.prediction?.status).toBe("succeeded");
  });

  test("takes off the page what was removed meanwhile", async () => {
    addAcceptedUpload();
    answers[`GET ${place}`] = refuse(404, unknown);
    await catchUp(store);
    expect(store.getSnapshot().cards).toEqual([]);
    expect(known()).toEqual([]);
    expect(problems().newest).toBeNull();
  });

  test("says what cannot be read until it is read", async () => {
    addAcceptedUpload();
    answers[`GET ${place}`] = refuse(503, away);
    await catchUp(store);
    expect(problems()).toMatchObject({ newest: away, older: null });
    expect(store.getSnapshot().cards).toHaveLength(1);

    answers[newest] = refuse(503, away);
    await catchUp(store);
    expect(problems().newest).toMatchObject(away);

    answers = { [newest]: () => Response.json(empty), [`GET ${place}`]: () => Response.json(succeeded) };
    await catchUp(store);
    expect(problems().newest).toBeNull();
  });
});

test("an older page that cannot be read is a problem of its own, until it is read", async () => {
  const older = "GET /api/predictions?limit=24&cursor=c";
  store.receiveNewest({ results: [succeeded], next: "c", previous: null });
  answers[older] = refuse(503, away);
  await readOlder(store);
  expect(problems()).toMatchObject({ newest: null, older: away });

  answers[older] = () => Response.json({ ...empty, results: [{ ...succeeded, id: makeId(1) }] });
  await readOlder(store);
  expect(problems().older).toBeNull();
  expect(known()).toHaveLength(2);
});

describe("canceling", () => {
  beforeEach(() => store.receiveNewest({ ...empty, results: [queued] }));

  test("shows how a prediction ended that was no longer to be canceled", async () => {
    answers[`POST ${place}/cancel`] = refuse(409, { title: "It has ended", detail: "It succeeded." });
    answers[`GET ${place}`] = () => Response.json(succeeded);
    await withdraw(store, queued);
    expect(known()).toEqual(["succeeded"]);
  });

  test("drops a prediction that ended and was removed", async () => {
    answers[`POST ${place}/cancel`] = refuse(409, { title: "It has ended", detail: "It succeeded." });
    answers[`GET ${place}`] = refuse(404, unknown);
    await withdraw(store, queued);
    expect(known()).toEqual([]);
  });

  test("throws any other problem", async () => {
    answers[`POST ${place}/cancel`] = refuse(503, away);
    await expect(withdraw(store, queued)).rejects.toMatchObject(away);
    expect(known()).toEqual(["queued"]);
  });
});

test("what was removed elsewhere goes when it is to be corrected", async () => {
  store.receiveNewest({ ...empty, results: [succeeded] });
  answers[`PUT ${place}/feedback`] = refuse(404, unknown);
  await correct(store, succeeded, "dog");
  expect(known()).toEqual([]);
});
