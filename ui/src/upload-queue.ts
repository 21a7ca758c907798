import { asProblem, type uploadImage } from "./api";
import type { PredictionStore } from "./predictions";
import type { Upload } from "./upload-list";

// Over HTTP/1.1 a browser opens at most six connections to a host. Two are for the streams of predictions and of a
// training, one is for other requests.
const MAX_IN_FLIGHT = 3;

/** Uploads files, one a request and at most three at a time, and reports each stage to the store. */
export class UploadQueue {
  #waiting: Upload[] = [];
  #inFlight = 0;

  constructor(
    private readonly store: PredictionStore,
    private readonly send: typeof uploadImage,
  ) {}

  /** Whether an upload has no answer yet. Such an upload may be lost if the page is closed. */
  get hasUnanswered(): boolean {
    return this.#inFlight + this.#waiting.length > 0;
  }

  add(files: readonly File[]): void {
    this.#waiting.push(...this.store.addUploads(files));
    this.#sendNext();
  }

  retry(uploads: readonly Upload[]): void {
    this.#waiting.push(...this.store.retry(uploads));
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
