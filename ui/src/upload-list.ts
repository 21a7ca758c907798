/** The files that this page was given, each from its choice to the prediction that it became. No React. */
import type { ApiProblem } from "./api";

export type Stage =
  | { at: "waiting" } // for one of the uploads in flight to end
  | { at: "sending"; fraction: number }
  | { at: "accepted"; id: string }
  | { at: "refused"; problem: ApiProblem };

export type Upload = {
  key: string; // its Idempotency-Key too: however often it is sent, it makes one prediction
  file: File;
  preview: string;
  stage: Stage;
};

export class UploadList {
  #uploads: readonly Upload[] = [];

  all(): readonly Upload[] {
    return this.#uploads;
  }

  /** Puts new uploads before the earlier ones, in the order they were chosen. */
  add(files: readonly File[]): Upload[] {
    const added = files.map(
      (file): Upload => ({
        key: makeKey(),
        file,
        preview: URL.createObjectURL(file),
        stage: { at: "waiting" },
      }),
    );
    this.#uploads = [...added, ...this.#uploads];
    return added;
  }

  setStage(key: string, stage: Stage): void {
    this.#uploads = this.#uploads.map((upload) => (upload.key === key ? { ...upload, stage } : upload));
  }

  /** Those of them that are refused wait once more; answers these. An earlier click may have come first. */
  waitAgain(uploads: readonly Upload[]): Upload[] {
    const keys = new Set(uploads.map(({ key }) => key));
    const again: Upload[] = [];
    this.#uploads = this.#uploads.map((upload) => {
      if (upload.stage.at !== "refused" || !keys.has(upload.key)) return upload;
      const waiting: Upload = { ...upload, stage: { at: "waiting" } };
      again.push(waiting);
      return waiting;
    });
    return again;
  }

  keep(wanted: (upload: Upload, place: number) => boolean): void {
    this.#uploads = this.#uploads.filter((upload, place) => {
      const kept = wanted(upload, place);
      if (!kept) URL.revokeObjectURL(upload.preview);
      return kept;
    });
  }
}

/** crypto.randomUUID is missing on a page that came over plain HTTP. */
function makeKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
