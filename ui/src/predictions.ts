/** What this page knows: predictions by id, its own uploads, a window on the history. No React. */
import type { ApiProblem, PageRequest, Prediction, PredictionPage } from "./api";

export const PAGE = 24;
export const MAX_CARDS = 50;
const SPARE = 500; // predictions beyond the window that may pile up before they are forgotten
const PUBLISH_MS = 33; // a burst of events renders once

export type Stage =
  | { at: "waiting" } // for one of the uploads in flight to end
  | { at: "sending"; fraction: number }
  | { at: "accepted"; id: string }
  | { at: "refused"; problem: ApiProblem };

export type Upload = { key: number; file: File; preview: string; stage: Stage };
export type Card = { upload: Upload; prediction: Prediction | undefined };
export type Connection = "connecting" | "live" | "reconnecting";

export type Snapshot = {
  cards: readonly Card[]; // the newest MAX_CARDS
  further: { unfinished: number; refused: readonly Upload[] }; // of the uploads beyond them
  history: readonly Prediction[];
  hasOlder: boolean;
  historyRead: boolean;
  historyProblem: ApiProblem | null;
  connection: Connection;
};

/** A terminal status beats any other; otherwise the one that was claimed or completed later counts. */
export function merge(known: Prediction | undefined, incoming: Prediction): Prediction {
  if (!known) return incoming;
  if (isTerminal(known) !== isTerminal(incoming)) return isTerminal(known) ? known : incoming;
  return changedAt(incoming) >= changedAt(known) ? incoming : known;
}

export function isTerminal({ status }: Pick<Prediction, "status">): boolean {
  return status !== "queued" && status !== "running";
}

function changedAt({ started_at, completed_at }: Prediction): number {
  const moment = completed_at ?? started_at;
  return moment ? Date.parse(moment) : 0; // 0: a queued one is older than any claim
}

export class PredictionStore {
  #predictions = new Map<string, Prediction>();
  #uploads: Upload[] = [];
  #nextKey = 1;
  #connection: Connection = "connecting";
  #historyProblem: ApiProblem | null = null;
  #shown = PAGE; // entries of the history on show
  #floor: string | null = null; // the oldest id that the history has without a gap; null: not read yet
  #older: PageRequest | null = null; // how to read on below the floor
  #unbrokenUpTo = ""; // the newest id known when the stream last broke
  #listeners = new Set<() => void>();
  #scheduled = false;
  #snapshot: Snapshot;

  constructor(
    private readonly schedule: (publish: () => void) => void = (run) => setTimeout(run, PUBLISH_MS),
  ) {
    this.#snapshot = this.#describe();
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  getSnapshot = (): Snapshot => this.#snapshot;

  receive(...predictions: Prediction[]): void {
    for (const prediction of predictions) {
      this.#predictions.set(prediction.id, merge(this.#predictions.get(prediction.id), prediction));
    }
    this.#changed();
  }

  /** Forgets a prediction that is no longer stored, and the upload that it came from. */
  remove(id: string): void {
    this.#predictions.delete(id);
    this.#keepUploads(({ stage }) => stage.at !== "accepted" || stage.id !== id);
    this.#changed();
  }

  /** Puts new uploads before the earlier ones, in the order they were chosen. */
  addUploads(files: readonly File[]): Upload[] {
    const added = files.map(
      (file): Upload => ({
        key: this.#nextKey++,
        file,
        preview: URL.createObjectURL(file),
        stage: { at: "waiting" },
      }),
    );
    this.#uploads = [...added, ...this.#uploads];
    this.#changed();
    return added;
  }

  setStage(key: number, stage: Stage): void {
    this.#uploads = this.#uploads.map((upload) => (upload.key === key ? { ...upload, stage } : upload));
    this.#changed();
  }

  accept(key: number, prediction: Prediction): void {
    this.receive(prediction);
    this.setStage(key, { at: "accepted", id: prediction.id });
  }

  clearFinished(): void {
    this.#keepUploads((upload) => !this.#isFinished(upload) && upload.stage.at !== "refused");
    this.#changed();
  }

  /** Ids of accepted uploads whose outcome is not known yet. */
  unfinishedUploads(): string[] {
    return this.#uploads.flatMap(({ stage }) => {
      const prediction = stage.at === "accepted" && this.#predictions.get(stage.id);
      return prediction && !isTerminal(prediction) ? [prediction.id] : [];
    });
  }

  setConnection(connection: Connection): void {
    if (this.#connection === "live") this.#unbrokenUpTo = this.#newestId();
    this.#connection = connection;
    this.#changed();
  }

  setHistoryProblem(problem: ApiProblem | null): void {
    this.#historyProblem = problem;
    this.#changed();
  }

  /** The first page. Where it does not reach what is known already, the history starts over from it. */
  receiveNewest(page: PredictionPage): void {
    const last = page.results.at(-1)?.id ?? "";
    if (this.#floor === null || last > this.#unbrokenUpTo) {
      this.#shown = PAGE;
      this.#setFloor(page);
    }
    this.#historyProblem = null;
    this.receive(...page.results);
    this.#unbrokenUpTo = this.#newestId();
  }

  /** What was read below the floor; too late, if the history has got another floor meanwhile. */
  receiveOlder(asked: PageRequest, page: PredictionPage): void {
    if (asked !== this.#older) return;
    this.#setFloor(page);
    this.#historyProblem = null;
    this.receive(...page.results);
  }

  /** Shows a page more of the history; answers what to read for it, if anything. */
  showOlder(): PageRequest | null {
    this.#shown = Math.min(this.#shown + PAGE, this.#known().length + PAGE);
    this.#changed();
    return this.#known().length < this.#shown ? this.#older : null;
  }

  #setFloor(page: PredictionPage): void {
    this.#floor = page.next ? (page.results.at(-1)?.id ?? "") : "";
    this.#older = page.next ? { limit: PAGE, cursor: page.next } : null;
  }

  /** The history without a gap, newest first: ids sort by time. */
  #known(): Prediction[] {
    const floor = this.#floor ?? "";
    return [...this.#predictions.values()]
      .filter(({ id }) => id >= floor)
      .sort((a, b) => (a.id < b.id ? 1 : -1));
  }

  #newestId(): string {
    return this.#known()[0]?.id ?? "";
  }

  #isFinished({ stage }: Upload): boolean {
    const prediction = stage.at === "accepted" && this.#predictions.get(stage.id);
    return Boolean(prediction && isTerminal(prediction));
  }

  #keepUploads(wanted: (upload: Upload, index: number) => boolean): void {
    const kept = this.#uploads.filter(wanted);
    for (const upload of this.#uploads) {
      if (!kept.includes(upload)) URL.revokeObjectURL(upload.preview);
    }
    this.#uploads = kept;
  }

  /** Finished uploads past the cards live on in the history alone. */
  #collapse(): void {
    if (this.#uploads.length <= MAX_CARDS) return;
    this.#keepUploads((upload, index) => index < MAX_CARDS || !this.#isFinished(upload));
  }

  /** A page that stays open on a busy service must not grow for ever. */
  #forget(): void {
    if (this.#floor === null || this.#predictions.size <= this.#shown + SPARE) return;
    const kept = this.#known().slice(0, this.#shown + PAGE);
    const last = kept.at(-1);
    if (!last) return;
    const ids = new Set(kept.map(({ id }) => id));
    for (const { stage } of this.#uploads) if (stage.at === "accepted") ids.add(stage.id);
    if (this.#known().length > kept.length) {
      this.#floor = last.id;
      // `to` is exclusive and several may share the millisecond; the overlap merges by id.
      this.#older = { limit: PAGE * 2, to: new Date(Date.parse(last.timestamp) + 1).toISOString() };
    }
    for (const id of this.#predictions.keys()) if (!ids.has(id)) this.#predictions.delete(id);
  }

  #changed(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.schedule(() => {
      this.#scheduled = false;
      this.#collapse();
      this.#forget();
      this.#snapshot = this.#describe();
      for (const listener of this.#listeners) listener();
    });
  }

  #describe(): Snapshot {
    const further = this.#uploads.slice(MAX_CARDS);
    const refused = further.filter(({ stage }) => stage.at === "refused");
    const known = this.#floor === null ? [] : this.#known();
    return {
      cards: this.#uploads.slice(0, MAX_CARDS).map((upload) => ({
        upload,
        prediction: upload.stage.at === "accepted" ? this.#predictions.get(upload.stage.id) : undefined,
      })),
      further: { unfinished: further.length - refused.length, refused },
      history: known.slice(0, this.#shown),
      hasOlder: known.length > this.#shown || this.#older !== null,
      historyRead: this.#floor !== null,
      historyProblem: this.#historyProblem,
      connection: this.#connection,
    };
  }
}
