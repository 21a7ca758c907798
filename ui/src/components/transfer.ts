import { useEffect, useState } from "react";

/** What was dropped or pasted: the files, and whether there was a folder. Folders cannot be uploaded. */
export type Transfer = { files: readonly File[]; folder: boolean };

type OnTransfer = (transfer: Transfer) => void;

function readTransfer({ items }: DataTransfer): Transfer {
  const fileItems = [...items].filter(({ kind }) => kind === "file");
  // Only `webkitGetAsEntry` distinguishes a folder from an empty file.
  const plainFiles = fileItems.filter((item) => !item.webkitGetAsEntry()?.isDirectory);
  return {
    files: plainFiles.flatMap((item) => item.getAsFile() ?? []),
    folder: plainFiles.length < fileItems.length,
  };
}

/** Handles drops anywhere on the page. Returns whether files are being dragged over it. */
export function useDrop(onTransfer: OnTransfer): boolean {
  const [dragging, setDragging] = useState(false);
  useEffect(() => {
    const over = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setDragging(true);
    };
    const leave = (event: DragEvent) => {
      if (event.relatedTarget === null) setDragging(false); // the pointer left the window
    };
    const drop = (event: DragEvent) => {
      setDragging(false);
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      onTransfer(readTransfer(event.dataTransfer));
    };
    document.addEventListener("dragover", over);
    document.addEventListener("dragleave", leave);
    document.addEventListener("drop", drop);
    return () => {
      document.removeEventListener("dragover", over);
      document.removeEventListener("dragleave", leave);
      document.removeEventListener("drop", drop);
    };
  }, [onTransfer]);
  return dragging;
}

/** Handles pasted files. */
export function usePaste(onTransfer: OnTransfer): void {
  useEffect(() => {
    const paste = (event: ClipboardEvent) => {
      if (!event.clipboardData) return;
      const transfer = readTransfer(event.clipboardData);
      if (transfer.folder || transfer.files.length > 0) onTransfer(transfer);
    };
    document.addEventListener("paste", paste);
    return () => document.removeEventListener("paste", paste);
  }, [onTransfer]);
}
