import { afterEach, expect, test, vi } from "vitest";
import { ApiProblem, parseProblem, readPage, uploadImage } from "./api";
import { makePrediction } from "./prediction.fixture";

afterEach(() => vi.unstubAllGlobals());

test("a problem keeps its title, detail and request id", () => {
  const body =
    '{"type":"about:blank","title":"Empty file","status":422,"detail":"No bytes.","request_id":"7f"}';
  const problem = parseProblem(422, body);
  expect([problem.title, problem.detail, problem.requestId]).toEqual(["Empty file", "No bytes.", "7f"]);
});

test.each(["<html>502 Bad Gateway</html>", "", "null", '"text"', '{"title":3}'])(
  "a body that is not a problem document becomes a general problem: %j",
  (body) => {
    const problem = parseProblem(502, body);
    expect(problem.title).toBe("Unexpected response");
    expect(problem.detail).toContain("502");
  },
);

test.each([
  [0, true],
  [415, false],
  [422, false],
  [429, true],
  [500, true],
  [503, true],
])("a request that failed with status %i can be retried: %s", (status, retryable) => {
  expect(new ApiProblem(status, "", "").retryable).toBe(retryable);
});

/** Answers every upload with this response. Returns the headers that are sent. */
function answerUploads(status: number, responseText: string): [string, string][] {
  const headers: [string, string][] = [];
  class Request {
    upload = {};
    status = status;
    responseText = responseText;
    onload = () => {};
    open() {}
    setRequestHeader(...header: [string, string]) {
      headers.push(header);
    }
    send() {
      this.onload();
    }
  }
  vi.stubGlobal("XMLHttpRequest", Request);
  return headers;
}

const upload = () => uploadImage(new File(["x"], "x.png"), "0a1b", () => {});

test("an upload carries its idempotency key", async () => {
  const headers = answerUploads(202, JSON.stringify(makePrediction()));
  await expect(upload()).resolves.toEqual(makePrediction());
  expect(headers).toEqual([["Idempotency-Key", "0a1b"]]);
});

test.each([
  [200, "<html>Log in to this network</html>", "The service cannot be reached"],
  [413, "<html>too large</html>", "Unexpected response"],
])(
  "an upload that gets an HTML page with status %i fails with a problem",
  async (status, responseText, title) => {
    answerUploads(status, responseText);
    await expect(upload()).rejects.toMatchObject({ title });
  },
);

test("an unreachable service gives an ApiProblem", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
  await expect(readPage({ limit: 24 })).rejects.toMatchObject({
    status: 0,
    title: "The service cannot be reached",
  });
});
