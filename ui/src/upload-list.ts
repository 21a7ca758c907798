/** The files that were chosen on this page, and the stage of each upload. Does not depend on React. */
import type { ApiProblem } from "./api";

export type Stage =
  | { at: "waiting" } // for a free connection
  | { at: "sending"; fraction: number }
  | { at: "accepted"; id: string }
  | { at: "refused"; problem: ApiProblem }; // by the service, or because it could not be reached

export type Upload = {
  key: string; // also the idempotency key: repeated uploads make one prediction
  file: File;
  preview: string; // object URL of the file
  stage: Stage;
};

export class UploadList {
  #uploads: readonly Upload[] = [];

  all(): readonly Upload[] {
    return this.#uploads;
  }

  /** Adds uploads at the start of the list, in the order of `files`. */
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

  /** Sets refused uploads to waiting and returns them. Skips others, so a double click retries once. */
  retry(uploads: readonly Upload[]): Upload[] {
    const keys = new Set(uploads.map(({ key }) => key));
    const retried: Upload[] = [];
    this.#uploads = this.#uploads.map((upload) => {
      if (upload.stage.at !== "refused" || !keys.has(upload.key)) return upload;
      const waiting: Upload = { ...upload, stage: { at: "waiting" } };
      retried.push(waiting);
      return waiting;
    });
    return retried;
  }

  keep(wanted: (upload: Upload, place: number) => boolean): void {
    this.#uploads = this.#uploads.filter((upload, place) => {
      const kept = wanted(upload, place);
      if (!kept) URL.revokeObjectURL(upload.preview);
      return kept;
    });
  }
}

/** 128 random bits. crypto.randomUUID is missing on pages served over plain HTTP, except from localhost. */
function makeKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
