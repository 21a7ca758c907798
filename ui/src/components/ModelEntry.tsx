import { useRef } from "react";
import type { Model } from "../api";
import { formatShare } from "../format";
import { activate } from "../model-requests";
import { isActivationPending, type ModelStore } from "../models";
import { Age } from "./Age";
import { useAction } from "./action";
import { DescriptionList, type Entry } from "./DescriptionList";
import { Notice } from "./Notice";
import { Pictures } from "./Pictures";
import { TransientButton } from "./TransientButton";

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
          <span className="badge">
            {isActivationPending(model) ? "Active, but no worker serves it yet" : "Active"}
          </span>
        )}
        {!active && error === null && (
          <TransientButton
            nextFocus={heading}
            aria-label={`Activate ${version}`}
            aria-disabled={busy}
            onClick={act}
          >
            Activate
          </TransientButton>
        )}
      </div>
      {error !== null && (
        <p className="error-text">
          <strong>Cannot be served.</strong> {error}
        </p>
      )}
      <DescriptionList
        entries={[...describeModel(model), ["Found", <Age key="found" moment={found_at} now={now} />]]}
      />
      {problem && <Notice problem={problem} />}
      <Pictures model={model} />
    </article>
  );
}

/** What the model's card says. Each of these members is optional. */
function describeModel({ accuracy, calibration_error, training, data }: Model): Entry[] {
  const entries: Entry[] = [];
  if (accuracy !== null) entries.push(["Accuracy", formatShare(accuracy)]);
  if (calibration_error !== null) entries.push(["Calibration error", formatShare(calibration_error)]);
  if (typeof training?.recipe === "string") entries.push(["Recipe", training.recipe]);
  if (typeof data?.name === "string") entries.push(["Data", data.name]);
  return entries;
}
