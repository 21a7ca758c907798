/** What this page knows of the trainings: the recent runs, and the curve of those looked at. No React. */
import type { ApiProblem, Epoch, Training, TrainingPage } from "./api";
import { isTerminal } from "./status";
import { Store } from "./store";
import type { Connection } from "./stream";

export const RECENT = 20; // as many as may be unfinished, so that no such run is left out

export type TrainingsSnapshot = {
  trainings: readonly Training[]; // newest first
  read: boolean;
  problem: ApiProblem | null;
  shown: Training | null; // the run being looked at
  curve: readonly Epoch[]; // of that run
  curveProblem: ApiProblem | null; // why it is not here
  connection: Connection; // of that run's stream
};

/** The one selected; else what runs, what runs next, what ran last. Trainings come newest first. */
export function chooseShown(trainings: readonly Training[], selected: string | null): Training | null {
  return (
    trainings.find(({ id }) => id === selected) ??
    trainings.find(({ status }) => status === "running") ??
    trainings.findLast(({ status }) => status === "queued") ??
    trainings[0] ??
    null
  );
}

/** The curve with one more epoch, or with one told again. */
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
  #unread: { id: string; problem: ApiProblem } | null = null; // the curve that could not be read
  #selected: string | null = null;
  #revision = 0;

  constructor() {
    super(NOTHING);
  }

  /** To call before a page is read: what changes after it is newer than the page. */
  ask(): number {
    return this.#revision;
  }

  receive(training: Training): void {
    this.#keep(training);
    this.#publish();
  }

  receivePage(asked: number, page: TrainingPage): void {
    for (const training of page.results) {
      if ((this.#known.get(training.id)?.revision ?? 0) <= asked) this.#keep(training);
    }
    this.#publish({ read: true, problem: null });
  }

  receiveEpoch(id: string, epoch: Epoch): void {
    this.setCurve(id, addEpoch(this.#curves.get(id) ?? [], epoch));
  }

  setCurve(id: string, curve: readonly Epoch[]): void {
    this.#curves.set(id, curve);
    if (this.#unread?.id === id) this.#unread = null;
    this.#publish();
  }

  setCurveProblem(id: string, problem: ApiProblem): void {
    this.#unread = { id, problem };
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

  /** An outcome is never overwritten by something older. */
  #keep(training: Training): void {
    const known = this.#known.get(training.id)?.training;
    if (known && isTerminal(known) && !isTerminal(training)) return;
    const ends = known && !isTerminal(known) && isTerminal(training);
    // Whoever watched it sees how it ended; and a second click on Cancel does not meet the next run's button.
    if (ends && this.getSnapshot().shown?.id === training.id) this.#selected = training.id;
    this.#known.set(training.id, { training, revision: ++this.#revision });
  }

  #publish(members: Partial<TrainingsSnapshot> = {}): void {
    const trainings = [...this.#known.values()]
      .map(({ training }) => training)
      .sort((a, b) => (a.id < b.id ? 1 : -1)); // ids sort by time
    const shown = chooseShown(trainings, this.#selected);
    const listed = trainings.slice(0, RECENT);
    for (const { id } of trainings.slice(RECENT)) {
      if (id === shown?.id) continue;
      this.#known.delete(id);
      this.#curves.delete(id);
    }
    const curve = (shown && this.#curves.get(shown.id)) ?? [];
    const curveProblem = this.#unread && this.#unread.id === shown?.id ? this.#unread.problem : null;
    this.change({ trainings: listed, shown, curve, curveProblem, ...members });
  }
}
