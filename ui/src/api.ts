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

/** An error response of the service, or no response at all. */
export class ApiProblem extends Error {
  constructor(
    /** The HTTP status; 0 if the service could not be reached. */
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly requestId: string | null = null,
  ) {
    super(`${title}: ${detail}`);
  }

  /** Whether the same request may succeed later. */
  get retryable(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

function unreachable(): ApiProblem {
  return new ApiProblem(0, "The service cannot be reached", "Check your connection, then try again.");
}

/** Converts any thrown value to an `ApiProblem`, which the UI can show. */
export function asProblem(error: unknown): ApiProblem {
  return error instanceof ApiProblem ? error : unreachable();
}

/** Parses RFC 9457 JSON. For any other body, such as a proxy's HTML page, returns a general problem. */
export function parseProblem(status: number, body: string): ApiProblem {
  try {
    const { title, detail, request_id } = JSON.parse(body) as Record<string, unknown>;
    if (typeof title === "string" && typeof detail === "string") {
      return new ApiProblem(status, title, detail, typeof request_id === "string" ? request_id : null);
    }
  } catch {
    // not JSON
  }
  return new ApiProblem(
    status,
    "Unexpected response",
    `The service responded with status ${status}. Try again later.`,
  );
}

/**
 * Uploads one file. Uses XMLHttpRequest, because fetch does not report upload progress.
 *
 * `key` is the idempotency key: if the response was lost, a repeated upload returns the stored prediction.
 * `onSent` receives the fraction of the body that has been sent. Rejects with an `ApiProblem`.
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
        reject(unreachable()); // not JSON: for instance the login page of a network
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

/** `label` is the correct label according to a person; null removes the feedback. */
export function sendFeedback({ urls }: Prediction, label: string | null): Promise<Prediction> {
  return sendJson("PUT", `${urls.self}/feedback`, { label });
}

export async function readSample(name: string): Promise<File> {
  const response = await request(`/samples/${name}.jpg`);
  return new File([await response.blob()], `${name}.jpg`, { type: "image/jpeg" });
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
  return sendJson("POST", "/api/trainings", wanted);
}

export function cancelTraining({ urls }: Training): Promise<Training> {
  return readJson(urls.cancel, { method: "POST" });
}

function sendJson<T>(method: string, address: string, body: object): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  return readJson(address, { method, headers, body: JSON.stringify(body) });
}

async function readJson<T>(address: string, init?: RequestInit): Promise<T> {
  return (await request(address, init)).json();
}

async function request(address: string, init?: RequestInit): Promise<Response> {
  const response = await fetch(address, init).catch(() => {
    throw unreachable();
  });
  if (!response.ok) throw parseProblem(response.status, await response.text());
  return response;
}
