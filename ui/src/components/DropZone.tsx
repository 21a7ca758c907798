import { type ChangeEvent, type RefObject, useCallback, useState } from "react";
import { Notice } from "./Notice";
import { type Transfer, useDrop, usePaste } from "./transfer";

const FOLDER = {
  title: "Folders cannot be uploaded",
  detail: "Open the folder and drop its images instead.",
};

type Props = {
  chooser: RefObject<HTMLInputElement | null>;
  onFiles: (files: readonly File[]) => void;
};

export function DropZone({ chooser, onFiles }: Props) {
  const [folder, setFolder] = useState(false);
  const accept = useCallback(
    (transfer: Transfer) => {
      setFolder(transfer.folder);
      onFiles(transfer.files);
    },
    [onFiles],
  );
  const dragging = useDrop(accept);
  usePaste(accept);
  const choose = ({ target }: ChangeEvent<HTMLInputElement>) => {
    accept({ files: [...(target.files ?? [])], folder: false });
    target.value = ""; // so that the same file can be chosen again
  };
  return (
    <>
      <label className={dragging ? "drop dragging" : "drop"}>
        <input
          ref={chooser}
          type="file"
          accept="image/*,.heic,.heif,.avif"
          multiple
          onChange={choose}
          aria-label="Choose images"
        />
        <span className="button primary" aria-hidden="true">
          Choose images
        </span>
        <span className="hint">
          {dragging ? "Drop to upload" : "or drop or paste them anywhere on this page"}
        </span>
      </label>
      {folder && <Notice problem={FOLDER} />}
    </>
  );
}
