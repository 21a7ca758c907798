import { type ChangeEvent, useEffect, useState } from "react";

type Props = { onFiles: (files: readonly File[]) => void };

export function DropZone({ onFiles }: Props) {
  const dragging = useDrop(onFiles);
  const choose = ({ target }: ChangeEvent<HTMLInputElement>) => {
    onFiles([...(target.files ?? [])]);
    target.value = ""; // so that the same file can be chosen again
  };
  return (
    <label className={dragging ? "drop dragging" : "drop"}>
      <input type="file" accept="image/*" multiple onChange={choose} aria-label="Choose images" />
      <span className="button primary" aria-hidden="true">
        Choose images
      </span>
      <span className="hint">
        {dragging ? "Let go to upload" : "or drop or paste them anywhere on this page"}
      </span>
    </label>
  );
}

/** Takes files dropped anywhere on the page; answers whether some are being dragged over it. */
function useDrop(onFiles: Props["onFiles"]): boolean {
  const [dragging, setDragging] = useState(false);
  useEffect(() => {
    const over = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setDragging(true);
    };
    const leave = (event: DragEvent) => {
      if (event.relatedTarget === null) setDragging(false); // out of the window, not into a child
    };
    const drop = (event: DragEvent) => {
      setDragging(false);
      const files = [...(event.dataTransfer?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      onFiles(files);
    };
    document.addEventListener("dragover", over);
    document.addEventListener("dragleave", leave);
    document.addEventListener("drop", drop);
    return () => {
      document.removeEventListener("dragover", over);
      document.removeEventListener("dragleave", leave);
      document.removeEventListener("drop", drop);
    };
  }, [onFiles]);
  return dragging;
}
