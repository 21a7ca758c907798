import type { SubmitEvent } from "react";
import { useRef } from "react";
import type { NewTraining } from "../api";
import { start } from "../training-requests";
import type { TrainingStore } from "../trainings";
import { useAction } from "./action";
import { Notice } from "./Notice";

export function TrainForm({ store }: { store: TrainingStore }) {
  const form = useRef<HTMLFormElement>(null);
  const { act, busy, problem } = useAction(async () => {
    if (form.current) await start(store, readForm(new FormData(form.current)));
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    void act();
  };
  return (
    <form className="panel train" ref={form} onSubmit={submit} aria-labelledby="train-title">
      <label>
        Recipe
        <select name="recipe">
          <option value="fast">fast</option>
          <option value="balanced">balanced (slower)</option>
          <option value="accurate">accurate (slowest)</option>
        </select>
      </label>
      <label>
        Activate the model
        <select name="activation">
          <option value="better">if it is better</option>
          <option value="always">always</option>
          <option value="never">never</option>
        </select>
      </label>
      <label>
        Seed
        <input
          name="seed"
          type="number"
          min={0}
          max={2 ** 31 - 1}
          defaultValue={0}
          title="The start value of the random numbers. Another seed gives a slightly different model."
          required
        />
      </label>
      <label>
        Epochs (optional)
        <input
          name="epochs"
          type="number"
          min={1}
          max={1000}
          placeholder="set by the recipe"
          title="How often the training goes through all training images"
        />
      </label>
      <label>
        Data set (optional)
        <input
          name="data"
          placeholder="CIFAR-10"
          pattern="[A-Za-z0-9][A-Za-z0-9._\-]{0,99}"
          title="The name of a data set in the training worker's folder of data sets"
          autoCapitalize="off"
          autoComplete="off"
          spellCheck={false}
        />
      </label>
      <button type="submit" className="button primary" aria-disabled={busy}>
        Train
      </button>
      {problem && <Notice problem={problem} />}
    </form>
  );
}

/** Converts the form to a request. An empty field becomes null: the service chooses the value. */
function readForm(form: FormData): NewTraining {
  const epochs = String(form.get("epochs") ?? "");
  const data = String(form.get("data") ?? "").trim();
  return {
    recipe: form.get("recipe") as NonNullable<NewTraining["recipe"]>,
    seed: Number(form.get("seed")),
    epochs: epochs === "" ? null : Number(epochs),
    data: data === "" ? null : data,
    activation: form.get("activation") as NonNullable<NewTraining["activation"]>,
  };
}
