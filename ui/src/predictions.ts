/** What this page knows: predictions by id, its own uploads, a window on the history. No React. */
import type { ApiProblem, PageRequest, Prediction, PredictionPage } from "./api";
import { isTerminal } from "./status";
import { Store } from "./store";
import type { Connection } from "./stream";
import { type Stage, type Upload, UploadList } from "./upload-list";

export const PAGE = 24;
export const MAX_CARDS = 50;
const SPARE = 500; // predictions beyond the window that may pile up before they are forgotten
const PUBLISH_MS = 33; // a burst of events renders once

export type Card = { upload: Upload; prediction: Prediction | undefined };

/** What can fail while the history is read: its newest page and what a break missed, or a page further down. */
export type Reading = "newest" | "older";

export type Snapshot = {
  cards: readonly Card[]; // the newest MAX_CARDS
  further: { unfinished: number; refused: readonly Upload[] }; // of the uploads beyond them
  history: readonly Prediction[];
  hasOlder: boolean;
  historyRead: boolean;
  historyProblems: Record<Reading, ApiProblem | null>;
  connection: Connection;
};

const NOTHING: Snapshot = {
  cards: [],
  further: { unfinished: 0, refused: [] },
  history: [],
  hasOlder: false,
  historyRead: false,
  historyProblems: { newest: null, older: null },
  connection: "connecting",
};

/** A terminal status beats any other; otherwise the one that was claimed or completed later counts. */
export function merge(known: Prediction | undefined, incoming: Prediction): Prediction {
  if (!known) return incoming;
  if (isTerminal(known) !== isTerminal(incoming)) return isTerminal(known) ? known : incoming;
  return changedAt(incoming) >= changedAt(known) ? incoming : known;
}

function changedAt({ started_at, completed_at }: Prediction): number {
  const moment = completed_at ?? started_at;
  return moment ? Date.parse(moment) : 0; // 0: a queued one is older than any claim
}

export class PredictionStore extends Store<Snapshot> {
  #predictions = new Map<string, Prediction>();
  #uploads = new UploadList();
  #connection = NOTHING.connection;
  #problems = NOTHING.historyProblems;
  #shown = PAGE; // entries of the history on show
  #floor: string | null = null; // the oldest id that the history has without a gap; null: not read yet
  #older: PageRequest | null = null; // how to read on below the floor
  #unbrokenUpTo = ""; // up to this id nothing is missing
  #doubtful = new Set<string>(); // ids of predictions that are known as they were before a `reload`
  #caughtUp = false; // whether the stream goes on from a newest page that was read since it opened
  #scheduled = false;

  constructor(
    private readonly schedule: (publish: () => void) => void = (run) => setTimeout(run, PUBLISH_MS),
  ) {
    super(NOTHING);
  }

  receive(...predictions: Prediction[]): void {
    for (const prediction of predictions) {
      const known = this.#doubtful.delete(prediction.id) ? undefined : this.#predictions.get(prediction.id);
      this.#predictions.set(prediction.id, merge(known, prediction));
    }
    this.#changed();
  }

  /** Forgets a prediction that is no longer stored, and the upload that it came from. */
  remove(id: string): void {
    this.#predictions.delete(id);
    this.#uploads.keep(({ stage }) => stage.at !== "accepted" || stage.id !== id);
    this.#changed();
  }

  /** Anything may have changed or been removed unheard: the next newest page replaces what is known. */
  startOver(): void {
    this.#doubtful = new Set(this.#predictions.keys());
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

  waitAgain(uploads: readonly Upload[]): Upload[] {
    const again = this.#uploads.waitAgain(uploads);
    this.#changed();
    return again;
  }

  accept(key: string, prediction: Prediction): void {
    this.receive(prediction);
    this.setStage(key, { at: "accepted", id: prediction.id });
  }

  /** An upload that was refused goes, though it could be tried again. */
  dismiss({ key }: Upload): void {
    this.#uploads.keep((upload) => upload.key !== key);
    this.publish();
  }

  /** What is under way stays, and what may go through later. */
  clearFinished(): void {
    this.#uploads.keep((upload) => {
      const { stage } = upload;
      return stage.at === "refused" ? stage.problem.passes : !this.#isFinished(upload);
    });
    this.#changed();
  }

  /** Ids of accepted uploads whose outcome is not known yet. */
  unfinishedUploads(): string[] {
    return this.#uploads.all().flatMap(({ stage }) => {
      const prediction = stage.at === "accepted" && this.#predictions.get(stage.id);
      return prediction && !isTerminal(prediction) ? [prediction.id] : [];
    });
  }

  setConnection(connection: Connection): void {
    if (this.#caughtUp) this.#unbrokenUpTo = this.#known()[0]?.id ?? "";
    this.#caughtUp = false;
    this.#connection = connection;
    this.#changed();
  }

  setHistoryProblem(reading: Reading, problem: ApiProblem): void {
    this.#problems = { ...this.#problems, [reading]: problem };
    this.#changed();
  }

  /**
   * The first page. The history starts over from it where it does not reach what is known already, and where
   * something further down may have ended unheard.
   */
  receiveNewest(page: PredictionPage): void {
    const last = page.results.at(-1)?.id ?? "";
    const openBelow = this.#known().some((prediction) => prediction.id < last && !isTerminal(prediction));
    const isReachable = this.#floor !== null && last <= this.#unbrokenUpTo;
    if (!isReachable || openBelow || this.#doubtful.size > 0) {
      this.#shown = PAGE;
      this.#setFloor(page);
      this.#forgetBelow(last);
    }
    this.#problems = { ...this.#problems, newest: null };
    this.#forgetDoubtful();
    this.receive(...page.results);
    this.#unbrokenUpTo = page.results[0]?.id ?? "";
    this.#caughtUp = this.#connection === "live";
  }

  /** What was read below the floor; too late, if the history has got another floor meanwhile. */
  receiveOlder(asked: PageRequest, page: PredictionPage): void {
    if (asked !== this.#older) return;
    this.#setFloor(page);
    this.receive(...page.results);
  }

  /** Shows a page more of the history; answers what to read for it, if anything. */
  showOlder(): PageRequest | null {
    this.#shown = Math.min(this.#shown + PAGE, this.#known().length + PAGE);
    this.#changed();
    return this.#known().length < this.#shown ? this.#older : null;
  }

  /** At once: what a person asked for shows before its button can be pressed again. */
  publish(): void {
    this.#collapse();
    this.#forget();
    this.change(this.#describe());
  }

  #setFloor(page: PredictionPage): void {
    this.#floor = page.next ? (page.results.at(-1)?.id ?? "") : "";
    this.#older = page.next ? { limit: PAGE, cursor: page.next } : null;
    this.#problems = { ...this.#problems, older: null };
  }

  /** The history without a gap, newest first: ids sort by time. */
  #known(): Prediction[] {
    const floor = this.#floor ?? "";
    return [...this.#predictions.values()]
      .filter(({ id }) => id >= floor)
      .sort((a, b) => (a.id < b.id ? 1 : -1));
  }

  #isFinished({ stage }: Upload): boolean {
    const prediction = stage.at === "accepted" && this.#predictions.get(stage.id);
    return Boolean(prediction && isTerminal(prediction));
  }

  /** Finished uploads past the cards live on in the history alone. */
  #collapse(): void {
    if (this.#uploads.all().length <= MAX_CARDS) return;
    this.#uploads.keep((upload, place) => place < MAX_CARDS || !this.#isFinished(upload));
  }

  /** A page that stays open on a busy service must not grow for ever. */
  #forget(): void {
    if (this.#floor === null || this.#predictions.size <= this.#shown + SPARE) return;
    const known = this.#known();
    const last = known[this.#shown + PAGE - 1];
    if (last && last !== known.at(-1)) {
      this.#floor = last.id;
      // `to` is exclusive and several may share the millisecond; the overlap merges by id.
      this.#older = { limit: PAGE * 2, to: new Date(Date.parse(last.timestamp) + 1).toISOString() };
    }
    this.#forgetBelow(this.#floor);
  }

  #forgetBelow(floor: string): void {
    this.#forgetIf((id) => id < floor);
  }

  #forgetDoubtful(): void {
    this.#forgetIf((id) => this.#doubtful.has(id));
    this.#doubtful.clear();
  }

  /** The predictions of this page's uploads stay. */
  #forgetIf(isForgotten: (id: string) => boolean): void {
    const own = new Set(this.#uploads.all().map(({ stage }) => (stage.at === "accepted" ? stage.id : "")));
    for (const id of this.#predictions.keys()) {
      if (isForgotten(id) && !own.has(id)) this.#predictions.delete(id);
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
    const further = uploads.slice(MAX_CARDS);
    const refused = further.filter(({ stage }) => stage.at === "refused");
    const known = this.#floor === null ? [] : this.#known();
    return {
      cards: uploads.slice(0, MAX_CARDS).map((upload) => ({
        upload,
        prediction: upload.stage.at === "accepted" ? this.#predictions.get(upload.stage.id) : undefined,
      })),
      further: { unfinished: further.length - refused.length, refused },
      history: known.slice(0, this.#shown),
      hasOlder: known.length > this.#shown || this.#older !== null,
      historyRead: this.#floor !== null,
      historyProblems: this.#problems,
      connection: this.#connection,
    };
  }
}
