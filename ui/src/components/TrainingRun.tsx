import { useRef } from "react";
import type { Epoch, Training } from "../api";
import { describeStatus, describeTraining, estimateSecondsLeft, formatSpan } from "../format";
import { isTerminal } from "../status";
import type { Connection } from "../stream";
import { cancel } from "../training-requests";
import type { TrainingStore } from "../trainings";
import { useAction } from "./action";
import { DescriptionList, type Entry } from "./DescriptionList";
import type { FocusTarget } from "./focus";
import { LearningCurve } from "./LearningCurve";
import { Notice } from "./Notice";
import { useNow } from "./now";
import { TransientButton } from "./TransientButton";

type Props = {
  store: TrainingStore;
  training: Training;
  curve: readonly Epoch[];
  connection: Connection;
};

/** The details of the shown run: its status, its figures and its learning curve. */
export function TrainingRun({ store, training, curve, connection }: Props) {
  const ended = isTerminal(training);
  const latest = curve.at(-1);
  const heading = useRef<HTMLHeadingElement>(null);
  return (
    <article className="panel" aria-labelledby="run-title">
      <div className="panel-title">
        <h3 id="run-title" ref={heading} tabIndex={-1}>
          {describeTraining(training)}
        </h3>
        {!ended && <Cancel key={training.id} store={store} training={training} heading={heading} />}
      </div>
      <p className={`run-status ${training.status}`} aria-live="polite">
        {describeStatus(training)}
        {!ended && connection === "reconnecting" && " (reconnecting…)"}
      </p>
      {training.error && (
        <p className="error-text">
          <strong>{training.error.title}.</strong> {training.error.detail}
        </p>
      )}
      {latest && <Figures training={training} latest={latest} />}
      {latest && <LearningCurve curve={curve} total={training.epochs} />}
      {!latest && !ended && <p className="empty-state">The learning curve appears after the first epoch.</p>}
    </article>
  );
}

function Figures({ training, latest }: { training: Training; latest: Epoch }) {
  const now = useNow(1000);
  const { number, loss, images_per_second } = latest;
  const isTraining = training.status === "running" && training.phase === "training";
  const left = estimateSecondsLeft(latest, now);
  const entries: Entry[] = [
    ["Epoch", training.epochs ? `${number} of ${training.epochs}` : String(number)],
    ["Loss", loss.toFixed(3)],
    ["Images/s", Math.round(images_per_second).toLocaleString("en")],
  ];
  if (isTraining) entries.push(["Time left", left < 1 ? "less than a second" : `about ${formatSpan(left)}`]);
  return <DescriptionList entries={entries} />;
}

type CancelProps = Pick<Props, "store" | "training"> & { heading: FocusTarget };

function Cancel({ store, training, heading }: CancelProps) {
  const { act, busy, problem } = useAction(() => cancel(store, training));
  return (
    <>
      <TransientButton nextFocus={heading} aria-disabled={busy} onClick={act}>
        Cancel
      </TransientButton>
      {problem && <Notice problem={problem} />}
    </>
  );
}
