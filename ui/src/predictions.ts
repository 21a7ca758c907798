/**
 * The predictions that this tab has received, its uploads, and the shown part of the history.
 *
 * Does not depend on React.
 */
import type { ApiProblem, PageRequest, Prediction, PredictionPage } from "./api";
import { newestFirst } from "./order";
import { isTerminal } from "./status";
import { Store } from "./store";
import type { Connection } from "./stream";
import { type Stage, type Upload, UploadList } from "./upload-list";

export const PAGE = 24; // predictions in one page of the history
export const MAX_CARDS = 50; // the newest uploads have a card
const SPARE = 500; // if more predictions than this are not shown, a tab keeps one page of them, and its uploads
const PUBLISH_MS = 33; // events that arrive within this time are rendered together

export type Card = { upload: Upload; prediction: Prediction | undefined };

/** The parts of the history that are read, and can fail, separately. */
export type HistoryPart = "newest" | "older";

export type Snapshot = {
  cards: readonly Card[]; // the newest MAX_CARDS
  withoutCard: { unfinished: number; refused: readonly Upload[] }; // the older uploads
  history: readonly Prediction[];
  hasOlder: boolean;
  historyRead: boolean;
  historyProblems: Record<HistoryPart, ApiProblem | null>;
  connection: Connection;
};

const NOTHING: Snapshot = {
  cards: [],
  withoutCard: { unfinished: 0, refused: [] },
  history: [],
  hasOlder: false,
  historyRead: false,
  historyProblems: { newest: null, older: null },
  connection: "connecting",
};

/** Chooses the newer of two copies: the one with a terminal status, else the one that started or ended later. */
export function merge(known: Prediction | undefined, incoming: Prediction): Prediction {
  if (!known) return incoming;
  if (isTerminal(known) !== isTerminal(incoming)) return isTerminal(known) ? known : incoming;
  return changedAt(incoming) >= changedAt(known) ? incoming : known;
}

function changedAt({ started_at, completed_at }: Prediction): number {
  const moment = completed_at ?? started_at;
  return moment ? Date.parse(moment) : 0; // 0: queued is older than any start
}

export class PredictionStore extends Store<Snapshot> {
  #predictions = new Map<string, Prediction>();
  #uploads = new UploadList();
  #connection = NOTHING.connection;
  #problems = NOTHING.historyProblems;
  #shown = PAGE; // how many entries of the history are shown
  #oldest: string | null = null; // oldest known id of the history; "": there is no older page; null: not read yet
  #older: PageRequest | null = null; // the request for entries older than `#oldest`; null: there are none
  #completeUpTo = ""; // from `#oldest` to this id the history has no gap; newer predictions may be missing
  #stale = new Set<string>(); // ids that were received before a `reload` and not again since
  #caughtUp = false; // whether the newest page has been read since the stream opened
  #scheduled = false;

  constructor(
    private readonly schedule: (publish: () => void) => void = (run) => setTimeout(run, PUBLISH_MS),
  ) {
    super(NOTHING);
  }

  receive(...predictions: Prediction[]): void {
    for (const prediction of predictions) {
      const known = this.#stale.delete(prediction.id) ? undefined : this.#predictions.get(prediction.id);
      this.#predictions.set(prediction.id, merge(known, prediction));
    }
    this.#changed();
  }

  /** Removes a prediction that is no longer stored, and its upload. */
  remove(id: string): void {
    this.#predictions.delete(id);
    this.#uploads.keep(({ stage }) => stage.at !== "accepted" || stage.id !== id);
    this.#changed();
  }

  /** Marks all predictions as possibly out of date. The newest page, when it is read again, replaces them. */
  markStale(): void {
    this.#stale = new Set(this.#predictions.keys());
    this.#caughtUp = false;
  }

  addUploads(files: readonly File[]): Upload[] {
    const added = this.#uploads.add(files);
    this.#changed();
    return added;
  }

  setStage(key: string, stage: Stage): void {
    this.#uploads.setStage(key, stage);
    this.#changed();
  }

  /** Sets refused uploads to waiting and returns them. */
  retry(uploads: readonly Upload[]): Upload[] {
    const retried = this.#uploads.retry(uploads);
    this.#changed();
    return retried;
  }

  accept(key: string, prediction: Prediction): void {
    this.receive(prediction);
    this.setStage(key, { at: "accepted", id: prediction.id });
  }

  /** Removes an upload that was refused. */
  dismiss({ key }: Upload): void {
    this.#uploads.keep((upload) => upload.key !== key);
    this.publish();
  }

  /** Removes all uploads except those that are unfinished or can be retried. */
  clearFinished(): void {
    this.#uploads.keep((upload) => {
      const { stage } = upload;
      return stage.at === "refused" ? stage.problem.retryable : !this.#isFinished(upload);
    });
    this.#changed();
  }

  /** Ids of the predictions of this tab's uploads that are not known to have ended. */
  unfinishedIds(): string[] {
    return this.#uploads.all().flatMap((upload) => {
      const prediction = this.#predictionOf(upload);
      return prediction && !isTerminal(prediction) ? [prediction.id] : [];
    });
  }

  setConnection(connection: Connection): void {
    // Until now the stream has brought every new prediction, so there is no gap up to the newest known one.
    if (this.#caughtUp) this.#completeUpTo = this.#known()[0]?.id ?? "";
    this.#caughtUp = false;
    this.#connection = connection;
    this.#changed();
  }

  setHistoryProblem(part: HistoryPart, problem: ApiProblem): void {
    this.#problems = { ...this.#problems, [part]: problem };
    this.#changed();
  }

  /**
   * Adds the newest page. The history restarts from this page if there may be a gap between the page and the
   * known entries, or if older entries may be out of date.
   */
  receiveNewest(page: PredictionPage): void {
    const last = page.results.at(-1)?.id ?? "";
    const hasOlderUnfinished = this.#known().some(
      (prediction) => prediction.id < last && !isTerminal(prediction),
    );
    const isContinuous = this.#oldest !== null && last <= this.#completeUpTo;
    if (!isContinuous || hasOlderUnfinished || this.#stale.size > 0) {
      this.#shown = PAGE;
      this.#setOldest(page);
      this.#forgetOlderThan(last);
    }
    this.#problems = { ...this.#problems, newest: null };
    this.#forgetStale();
    this.receive(...page.results);
    this.#completeUpTo = page.results[0]?.id ?? "";
    this.#caughtUp = this.#connection === "live";
  }

  /** Adds an older page. Ignores it if `request` is no longer the next one to read. */
  receiveOlder(request: PageRequest, page: PredictionPage): void {
    if (request !== this.#older) return;
    this.#setOldest(page);
    this.receive(...page.results);
  }

  /** Shows one more page of the history. Returns the page that must be read for this, or null. */
  showOlder(): PageRequest | null {
    this.#shown = Math.min(this.#shown + PAGE, this.#known().length + PAGE);
    this.#changed();
    return this.#known().length < this.#shown ? this.#older : null;
  }

  /** Publishes changes at once, so that the result of a click is shown before the next click. */
  publish(): void {
    this.#dropOldUploads();
    this.#forget();
    this.change(this.#describe());
  }

  #setOldest(page: PredictionPage): void {
    this.#oldest = page.next ? (page.results.at(-1)?.id ?? "") : "";
    this.#older = page.next ? { limit: PAGE, cursor: page.next } : null;
    this.#problems = { ...this.#problems, older: null };
  }

  /** The known part of the history: the predictions from `#oldest` on, newest first. */
  #known(): Prediction[] {
    const oldest = this.#oldest ?? "";
    return [...this.#predictions.values()].filter(({ id }) => id >= oldest).sort(newestFirst);
  }

  #predictionOf({ stage }: Upload): Prediction | undefined {
    return stage.at === "accepted" ? this.#predictions.get(stage.id) : undefined;
  }

  #isFinished(upload: Upload): boolean {
    const prediction = this.#predictionOf(upload);
    return prediction !== undefined && isTerminal(prediction);
  }

  /** Removes finished uploads that have no card. The history still has them. */
  #dropOldUploads(): void {
    if (this.#uploads.all().length <= MAX_CARDS) return;
    this.#uploads.keep((upload, place) => place < MAX_CARDS || !this.#isFinished(upload));
  }

  /** Limits the memory of a tab that stays open on a busy service. */
  #forget(): void {
    if (this.#oldest === null || this.#predictions.size <= this.#shown + SPARE) return;
    const known = this.#known();
    const last = known[this.#shown + PAGE - 1];
    if (last && last !== known.at(-1)) {
      this.#oldest = last.id;
      // `to` is exclusive and several predictions can share a millisecond. Duplicates are merged by id.
      this.#older = { limit: PAGE * 2, to: new Date(Date.parse(last.timestamp) + 1).toISOString() };
    }
    this.#forgetOlderThan(this.#oldest);
  }

  #forgetOlderThan(oldest: string): void {
    this.#forgetIf((id) => id < oldest);
  }

  #forgetStale(): void {
    this.#forgetIf((id) => this.#stale.has(id));
    this.#stale.clear();
  }

  /** Removes predictions, except those of this tab's uploads. */
  #forgetIf(isRemovable: (id: string) => boolean): void {
    const own = new Set(this.#uploads.all().map(({ stage }) => (stage.at === "accepted" ? stage.id : "")));
    for (const id of this.#predictions.keys()) {
      if (isRemovable(id) && !own.has(id)) this.#predictions.delete(id);
    }
  }

  #changed(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.schedule(() => {
      this.#scheduled = false;
      this.publish();
    });
  }

  #describe(): Snapshot {
    const uploads = this.#uploads.all();
    const older = uploads.slice(MAX_CARDS);
    const refused = older.filter(({ stage }) => stage.at === "refused");
    const known = this.#oldest === null ? [] : this.#known();
    return {
      cards: uploads
        .slice(0, MAX_CARDS)
        .map((upload) => ({ upload, prediction: this.#predictionOf(upload) })),
      withoutCard: { unfinished: older.length - refused.length, refused },
      history: known.slice(0, this.#shown),
      hasOlder: known.length > this.#shown || this.#older !== null,
      historyRead: this.#oldest !== null,
      historyProblems: this.#problems,
      connection: this.#connection,
    };
  }
}
