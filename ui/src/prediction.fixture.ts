import type { Prediction } from "./api";

/** A UUID of version 7: ids sort by `number`. */
export function makeId(number: number): string {
  return `019a0c5e-0000-7000-8000-${String(number).padStart(12, "0")}`;
}

/** A queued prediction, changed by `members`. */
export function makePrediction(members: Partial<Prediction> = {}): Prediction {
  const id = members.id ?? "019a0c5e-7a3b-7c11-9d52-0f6f3b8e2a41";
  return {
    id,
    filename: "cat.png",
    status: "queued",
    prediction: null,
    confidence: null,
    probabilities: [],
    model: null,
    energy: null,
    unfamiliar: null,
    error: null,
    timestamp: "2026-11-24T08:15:30.123Z",
    started_at: null,
    completed_at: null,
    metrics: { queue_ms: null, batch_size: null, predict_ms: null },
    feedback: null,
    urls: {
      self: `/api/predictions/${id}`,
      events: `/api/predictions/${id}/events`,
      image: `/api/predictions/${id}/image`,
    },
    ...members,
  };
}

export function makeFiles(count: number): File[] {
  return Array.from({ length: count }, (_, number) => new File(["x"], `${number}.png`));
}
