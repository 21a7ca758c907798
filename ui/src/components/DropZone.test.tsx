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

/** Whether the browser would do what it does by itself, such as open the file. */
const drop = (...items: object[]) =>
  fireEvent.drop(document.body, { dataTransfer: { types: ["Files"], items } });

test("a file that is dropped or pasted is taken", () => {
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

test("a folder is left out and this is said, until something else comes", () => {
  expect(drop(makeItem(new File([], "holidays"), true), makeItem(cat))).toBe(false);
  expect(onFiles).toHaveBeenLastCalledWith([cat]);
  expect(screen.getByRole("alert").textContent).toContain("A folder was left out.");
  drop(makeItem(cat));
  expect(screen.queryByRole("alert")).toBeNull();
});

test("dragging files over the page says that they can be let go", () => {
  fireEvent.dragOver(document.body, { dataTransfer: { types: ["Files"] } });
  screen.getByText("Let go to upload");
  const leaving = new Event("dragleave", { bubbles: true });
  fireEvent(document.body, Object.assign(leaving, { relatedTarget: null })); // out of the window
  expect(screen.queryByText("Let go to upload")).toBeNull();
});
