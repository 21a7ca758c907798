import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { createRef } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DropZone } from "./DropZone";

const onFiles = vi.fn();
const cat = new File(["x"], "cat.png");

beforeEach(() => {
  onFiles.mockReset();
  render(<DropZone chooser={createRef()} onFiles={onFiles} />);
});

afterEach(cleanup);

function makeItem(file: File, isDirectory = false) {
  return { kind: "file", getAsFile: () => file, webkitGetAsEntry: () => ({ isDirectory }) };
}

const text = { kind: "string", getAsFile: () => null, webkitGetAsEntry: () => null };

/** Returns false if the page prevents the browser's default action, such as opening the file. */
const drop = (...items: object[]) =>
  fireEvent.drop(document.body, { dataTransfer: { types: ["Files"], items } });

test("a file that is dropped or pasted is uploaded", () => {
  expect(drop(makeItem(cat))).toBe(false);
  expect(onFiles).toHaveBeenLastCalledWith([cat]);
  fireEvent.paste(document.body, { clipboardData: { items: [text, makeItem(cat)] } });
  expect(onFiles).toHaveBeenCalledTimes(2);
  expect(onFiles).toHaveBeenLastCalledWith([cat]);
});

test("text that is dropped or pasted is left to the browser", () => {
  const transfer = { types: ["text/plain"], items: [text] };
  expect(fireEvent.drop(document.body, { dataTransfer: transfer })).toBe(true);
  fireEvent.paste(document.body, { clipboardData: transfer });
  expect(onFiles).not.toHaveBeenCalled();
});

test("a dropped folder is skipped, and a notice stays until the next drop", () => {
  expect(drop(makeItem(new File([], "holidays"), true), makeItem(cat))).toBe(false);
  expect(onFiles).toHaveBeenLastCalledWith([cat]);
  expect(screen.getByRole("alert").textContent).toContain("Folders cannot be uploaded.");
  drop(makeItem(cat));
  expect(screen.queryByRole("alert")).toBeNull();
});

test("dragging files over the page changes the hint", () => {
  fireEvent.dragOver(document.body, { dataTransfer: { types: ["Files"] } });
  screen.getByText("Drop to upload");
  const leaving = new Event("dragleave", { bubbles: true });
  fireEvent(document.body, Object.assign(leaving, { relatedTarget: null })); // the pointer left the window
  expect(screen.queryByText("Drop to upload")).toBeNull();
});
