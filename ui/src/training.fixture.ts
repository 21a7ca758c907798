import type { Epoch, Model, Training } from "./api";

/** A UUID of version 7: ids sort by `number`. */
export function makeTrainingId(number: number): string {
  return `019a0c61-0000-7000-8000-${String(number).padStart(12, "0")}`;
}

/** A queued training, changed by `members`. */
export function makeTraining(members: Partial<Training> = {}): Training {
  const id = members.id ?? makeTrainingId(1);
  return {
    id,
    recipe: "fast",
    seed: 0,
    epochs: null,
    data: null,
    activation: "better",
    status: "queued",
    phase: null,
    device: null,
    silent: false,
    model: null,
    error: null,
    timestamp: "2026-11-24T08:20:00.000Z",
    started_at: null,
    completed_at: null,
    urls: {
      self: `/api/trainings/${id}`,
      events: `/api/trainings/${id}/events`,
      cancel: `/api/trainings/${id}/cancel`,
      model: null,
    },
    ...members,
  };
}

/** An epoch. Each is one minute later than the previous one. */
export function makeEpoch(number: number, members: Partial<Epoch> = {}): Epoch {
  return {
    number,
    loss: 1 / number,
    accuracy: 0.5,
    validation_accuracy: 0.6,
    learning_rate: 0.1,
    images_per_second: 900,
    seconds_left: 60,
    timestamp: new Date(Date.UTC(2026, 10, 24, 8, 20 + number)).toISOString(),
    ...members,
  };
}

/** A published model that was served earlier and is not active, changed by `members`. */
export function makeModel(members: Partial<Model> = {}): Model {
  const version = members.version ?? "2026-11-24-1f0c9a7b";
  return {
    version,
    active: false,
    error: null,
    found_at: "2026-11-24T08:00:00Z",
    activated_at: "2026-11-24T08:00:00Z",
    served_at: "2026-11-24T08:00:01Z",
    accuracy: 0.9412,
    calibration_error: 0.0167,
    classes: ["cat", "dog"],
    training: { recipe: "fast" },
    data: { name: "CIFAR-10" },
    pictures: [],
    urls: {
      self: `/api/models/${version}`,
      card: `/api/models/${version}`,
      activate: `/api/models/${version}/activate`,
    },
    ...members,
  };
}
