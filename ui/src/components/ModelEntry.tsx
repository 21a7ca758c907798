import { useRef } from "react";
import type { Model } from "../api";
import { formatAge, formatMoment, formatShare } from "../format";
import { activate } from "../model-requests";
import { isAwaited, type ModelStore } from "../models";
import { useAction } from "./action";
import { type Fact, Facts } from "./Facts";
import { Notice } from "./Notice";
import { PassingButton } from "./PassingButton";
import { Pictures } from "./Pictures";

export function ModelEntry({ store, model, now }: { store: ModelStore; model: Model; now: number }) {
  const { version, active, error, found_at } = model;
  const heading = useRef<HTMLHeadingElement>(null);
  const { act, busy, problem } = useAction(() => activate(store, model));
  return (
    <article className="panel" aria-label={version}>
      <div className="panel-title">
        <h3 ref={heading} tabIndex={-1}>
          {version}
        </h3>
        {active && (
          <span className="badge">{isAwaited(model) ? "Active, no worker serves it yet" : "Active"}</span>
        )}
        {!active && error === null && (
          <PassingButton heir={heading} aria-label={`Activate ${version}`} aria-disabled={busy} onClick={act}>
            Activate
          </PassingButton>
        )}
      </div>
      {error !== null && (
        <p className="why">
          <strong>Cannot be served.</strong> {error}
        </p>
      )}
      <Facts facts={[...describeModel(model), ["Found", <Age key="found" moment={found_at} now={now} />]]} />
      {problem && <Notice problem={problem} />}
      <Pictures model={model} />
    </article>
  );
}

function Age({ moment, now }: { moment: string; now: number }) {
  return (
    <time dateTime={moment} title={formatMoment(moment)}>
      {formatAge(moment, now)}
    </time>
  );
}

/** What its card says; a card may leave out anything. */
function describeModel({ accuracy, calibration_error, training, data }: Model): Fact[] {
  const facts: Fact[] = [];
  if (accuracy !== null) facts.push(["Accuracy", formatShare(accuracy)]);
  if (calibration_error !== null) facts.push(["Calibration error", formatShare(calibration_error)]);
  if (typeof training?.recipe === "string") facts.push(["Recipe", training.recipe]);
  if (typeof data?.name === "string") facts.push(["Data", data.name]);
  return facts;
}
