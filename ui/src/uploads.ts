import { asProblem, type uploadImage } from "./api";
import type { PredictionStore } from "./predictions";
import type { Upload } from "./upload-list";

// Of the six connections that a browser opens to a host, the streams of the page and of a run take two; one is
// left for what is read and asked meanwhile.
const MAX_IN_FLIGHT = 3;

/** Sends files one request each, a few at a time, and tells the store how each fares. */
export class UploadQueue {
  #waiting: Upload[] = [];
  #inFlight = 0;

  constructor(
    private readonly store: PredictionStore,
    private readonly send: typeof uploadImage,
  ) {}

  /** Whether some would be lost with the page. */
  get underWay(): boolean {
    return this.#inFlight + this.#waiting.length > 0;
  }

  add(files: readonly File[]): void {
    this.#waiting.push(...this.store.addUploads(files));
    this.#sendNext();
  }

  tryAgain(uploads: readonly Upload[]): void {
    this.#waiting.push(...this.store.waitAgain(uploads));
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
      this.store.accept(key, await this.send(file, key, onSent));
    } catch (error) {
      this.store.setStage(key, { at: "refused", problem: asProblem(error) });
    }
  }
}
