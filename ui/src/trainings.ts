/** The recent trainings, and the learning curves of those that were shown. Does not depend on React. */
import type { ApiProblem, Epoch, Training, TrainingPage } from "./api";
import { newestFirst } from "./order";
import { isTerminal } from "./status";
import { Store } from "./store";
import type { Connection } from "./stream";

export const RECENT = 20; // the service allows this many unfinished runs

export type TrainingsSnapshot = {
  trainings: readonly Training[]; // newest first
  read: boolean; // whether the list has been read
  problem: ApiProblem | null; // why the list could not be read
  shown: Training | null; // the run whose details are shown
  curve: readonly Epoch[]; // of the shown run
  curveProblem: ApiProblem | null; // why the curve of the shown run could not be read
  connection: Connection; // of the stream of the shown run
};

/**
 * Chooses the run to show: the selected run, else the running one, else the oldest queued one, else
 * the newest one. `trainings` are newest first.
 */
export function chooseShown(trainings: readonly Training[], selected: string | null): Training | null {
  return (
    trainings.find(({ id }) => id === selected) ??
    trainings.find(({ status }) => status === "running") ??
    trainings.findLast(({ status }) => status === "queued") ??
    trainings[0] ??
    null
  );
}

/** Adds an epoch to the curve, or replaces it if the curve has it already. */
export function addEpoch(curve: readonly Epoch[], epoch: Epoch): readonly Epoch[] {
  const others = curve.filter(({ number }) => number !== epoch.number);
  return [...others, epoch].sort((a, b) => a.number - b.number);
}

const NOTHING: TrainingsSnapshot = {
  trainings: [],
  read: false,
  problem: null,
  shown: null,
  curve: [],
  curveProblem: null,
  connection: "connecting",
};

export class TrainingStore extends Store<TrainingsSnapshot> {
  #known = new Map<string, { training: Training; revision: number }>();
  #curves = new Map<string, readonly Epoch[]>();
  #curveProblem: { id: string; problem: ApiProblem } | null = null; // the latest curve that could not be read
  #selected: string | null = null;
  #revision = 0;

  constructor() {
    super(NOTHING);
  }

  /** Call this before a page is read, and pass the revision to `receivePage`. */
  getRevision(): number {
    return this.#revision;
  }

  receive(training: Training): void {
    this.#keep(training);
    this.#publish();
  }

  /** Stores the runs of the page, except those that changed after `revision`. */
  receivePage(revision: number, page: TrainingPage): void {
    for (const training of page.results) {
      if ((this.#known.get(training.id)?.revision ?? 0) <= revision) this.#keep(training);
    }
    this.#publish({ read: true, problem: null });
  }

  receiveEpoch(id: string, epoch: Epoch): void {
    this.setCurve(id, addEpoch(this.#curves.get(id) ?? [], epoch));
  }

  setCurve(id: string, curve: readonly Epoch[]): void {
    this.#curves.set(id, curve);
    if (this.#curveProblem?.id === id) this.#curveProblem = null;
    this.#publish();
  }

  setCurveProblem(id: string, problem: ApiProblem): void {
    this.#curveProblem = { id, problem };
    this.#publish();
  }

  select(id: string): void {
    this.#selected = id;
    this.#publish();
  }

  setConnection(connection: Connection): void {
    this.change({ connection });
  }

  setProblem(problem: ApiProblem): void {
    this.change({ problem });
  }

  /** Stores a run. A terminal status is never replaced by an earlier status. */
  #keep(training: Training): void {
    const known = this.#known.get(training.id)?.training;
    if (known && isTerminal(known) && !isTerminal(training)) return;
    const ends = known && !isTerminal(known) && isTerminal(training);
    // When the shown run ends, it stays shown. Otherwise a second click on Cancel could cancel the next run.
    if (ends && this.getSnapshot().shown?.id === training.id) this.#selected = training.id;
    this.#known.set(training.id, { training, revision: ++this.#revision });
  }

  #publish(members: Partial<TrainingsSnapshot> = {}): void {
    const trainings = [...this.#known.values()].map(({ training }) => training).sort(newestFirst);
    const shown = chooseShown(trainings, this.#selected);
    const listed = trainings.slice(0, RECENT);
    for (const { id } of trainings.slice(RECENT)) {
      if (id === shown?.id) continue;
      this.#known.delete(id);
      this.#curves.delete(id);
    }
    const curve = (shown && this.#curves.get(shown.id)) ?? [];
    const curveProblem =
      this.#curveProblem && this.#curveProblem.id === shown?.id ? this.#curveProblem.problem : null;
    this.change({ trainings: listed, shown, curve, curveProblem, ...members });
  }
}
