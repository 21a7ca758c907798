import { asProblem, type uploadImage } from "./api";
import type { PredictionStore, Upload } from "./predictions";

const MAX_IN_FLIGHT = 4;

/** Sends files one request each, a few at a time, and tells the store how each fares. */
export class UploadQueue {
  #waiting: Upload[] = [];
  #inFlight = 0;

  constructor(
    private readonly store: PredictionStore,
    private readonly send: typeof uploadImage,
  ) {}

  add(files: readonly File[]): void {
    this.#waiting.push(...this.store.addUploads(files));
    this.#sendNext();
  }

  tryAgain(uploads: readonly Upload[]): void {
    for (const upload of uploads) this.store.setStage(upload.key, { at: "waiting" });
    this.#waiting.push(...uploads);
    this.#sendNext();
  }

  #sendNext(): void {
    while (this.#inFlight < MAX_IN_FLIGHT) {
      const upload = this.#waiting.shift();
      if (!upload) return;
      this.#inFlight++;
      void this.#sendOne(upload).finally(() => {
        this.#inFlight--;
        this.#sendNext();
      });
    }
  }

  async #sendOne({ key, file }: Upload): Promise<void> {
    const onSent = (fraction: number) => this.store.setStage(key, { at: "sending", fraction });
    onSent(0);
    try {
      this.store.accept(key, await this.send(file, onSent));
    } catch (error) {
      this.store.setStage(key, { at: "refused", problem: asProblem(error) });
    }
  }
}
