import type { components, operations } from "./api-types";

export type Prediction = components["schemas"]["Prediction"];
export type PredictionPage = components["schemas"]["PredictionPage"];
export type Epoch = components["schemas"]["Epoch"];
export type Model = components["schemas"]["Model"];
export type ModelList = components["schemas"]["ModelList"];
export type Training = components["schemas"]["Training"];
export type TrainingDetail = components["schemas"]["TrainingDetail"];
export type TrainingPage = components["schemas"]["TrainingPage"];
export type NewTraining = NonNullable<
  operations["start_training"]["requestBody"]
>["content"]["application/json"];

/** What the service answered instead of what was asked, or that it could not be reached. */
export class ApiProblem extends Error {
  constructor(
    /** The HTTP status; 0: no answer at all. */
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly requestId: string | null = null,
  ) {
    super(`${title}: ${detail}`);
  }

  /** Whether the same request may go through later. */
  get passes(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

function unreachable(): ApiProblem {
  return new ApiProblem(0, "The service cannot be reached", "Check your connection, then try again.");
}

/** What to show of whatever was thrown. */
export function asProblem(error: unknown): ApiProblem {
  return error instanceof ApiProblem ? error : unreachable();
}

/** Reads RFC 9457 JSON; anything else, such as a proxy's HTML page, becomes words of our own. */
export function parseProblem(status: number, body: string): ApiProblem {
  try {
    const { title, detail, request_id } = JSON.parse(body) as Record<string, unknown>;
    if (typeof title === "string" && typeof detail === "string") {
      return new ApiProblem(status, title, detail, typeof request_id === "string" ? request_id : null);
    }
  } catch {
    // not JSON
  }
  return new ApiProblem(status, "Unexpected answer", `The service answered ${status}; try again later.`);
}

/**
 * Over XMLHttpRequest: fetch does not tell how much of a body has been sent. With the same `key` again it finds
 * what was stored, if the answer alone got lost.
 */
export function uploadImage(
  file: File,
  key: string,
  onSent: (fraction: number) => void,
): Promise<Prediction> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const body = new FormData();
    body.append("file", file, file.name);
    request.upload.onprogress = (sent) => {
      if (sent.lengthComputable) onSent(sent.loaded / sent.total);
    };
    request.onload = () => {
      const { status, responseText } = request;
      if (status < 200 || status >= 300) return reject(parseProblem(status, responseText));
      try {
        resolve(JSON.parse(responseText));
      } catch {
        reject(unreachable()); // a network's own page, such as one to log in, in the place of the answer
      }
    };
    request.onerror = () => reject(unreachable());
    request.open("POST", "/api/predict");
    request.setRequestHeader("Idempotency-Key", key);
    request.send(body);
  });
}

export type PageRequest = { limit: number; cursor?: string; to?: string };

export function readPage({ limit, cursor, to }: PageRequest): Promise<PredictionPage> {
  const query = new URLSearchParams({ limit: String(limit) });
  if (cursor) query.set("cursor", cursor);
  if (to) query.set("to", to);
  return readJson(`/api/predictions?${query}`);
}

export function readPrediction(id: string): Promise<Prediction> {
  return readJson(`/api/predictions/${id}`);
}

export function cancelPrediction({ urls }: Prediction): Promise<Prediction> {
  return readJson(`${urls.self}/cancel`, { method: "POST" });
}

export async function deletePrediction({ urls }: Prediction): Promise<void> {
  await request(urls.self, { method: "DELETE" });
}

/** `label` is what a person says is right; null takes it back. */
export function sendFeedback({ urls }: Prediction, label: string | null): Promise<Prediction> {
  const headers = { "Content-Type": "application/json" };
  return readJson(`${urls.self}/feedback`, { method: "PUT", headers, body: JSON.stringify({ label }) });
}

export async function readSample(name: string): Promise<File> {
  const answer = await request(`/samples/${name}.jpg`);
  return new File([await answer.blob()], `${name}.jpg`, { type: "image/jpeg" });
}

export function readModels(): Promise<ModelList> {
  return readJson("/api/models");
}

export function activateModel({ urls }: Model): Promise<Model> {
  return readJson(urls.activate, { method: "POST" });
}

export function readTrainings(limit: number): Promise<TrainingPage> {
  return readJson(`/api/trainings?limit=${limit}`);
}

export function readTraining({ urls }: Training): Promise<TrainingDetail> {
  return readJson(urls.self);
}

export function startTraining(wanted: NewTraining): Promise<Training> {
  const headers = { "Content-Type": "application/json" };
  return readJson("/api/trainings", { method: "POST", headers, body: JSON.stringify(wanted) });
}

export function cancelTraining({ urls }: Training): Promise<Training> {
  return readJson(urls.cancel, { method: "POST" });
}

async function readJson<T>(address: string, init?: RequestInit): Promise<T> {
  return (await request(address, init)).json();
}

async function request(address: string, init?: RequestInit): Promise<Response> {
  const answer = await fetch(address, init).catch(() => {
    throw unreachable();
  });
  if (!answer.ok) throw parseProblem(answer.status, await answer.text());
  return answer;
}
