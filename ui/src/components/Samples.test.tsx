import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, expect, test, vi } from "vitest";
import { Samples } from "./Samples";

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

const onFiles = vi.fn();
const click = (name: string) =>
  act(async () => screen.getByRole("button", { name: `Upload the sample ${name}` }).click());

test("a sample is uploaded like any file, and a problem is shown if the sample cannot be read", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
  render(<Samples onFiles={onFiles} />);
  await click("cat");
  expect(screen.getByRole("alert").textContent).toContain("The service cannot be reached.");
  expect(onFiles).not.toHaveBeenCalled();

  vi.stubGlobal("fetch", async () => new Response("x"));
  await click("cat");
  expect(screen.queryByRole("alert")).toBeNull();
  expect(onFiles.mock.calls[0]?.[0]).toMatchObject([{ name: "cat.jpg", type: "image/jpeg" }]);
});
