import type { Epoch, Prediction, Training } from "./api";
import { statusLabels } from "./status";

const language = "en";
// numeric: 47 hours ago is shown as "1 day ago", not as "yesterday".
const relative = new Intl.RelativeTimeFormat(language, { numeric: "always" });
const absolute = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
const steps: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
];

export function formatAge(moment: string, now: number): string {
  const ms = Date.parse(moment) - now;
  for (const [unit, length] of steps) {
    if (-ms >= length) return relative.format(Math.ceil(ms / length), unit);
  }
  return "just now";
}

export function formatMoment(moment: string): string {
  return absolute.format(new Date(moment));
}

/** A probability with one decimal, at most 99.9%: rounding up to 100% would claim certainty. */
export function formatPercent(fraction: number): string {
  const percent = fraction * 100;
  if (percent < 0.1) return "<0.1%";
  return `${Math.min(percent, 99.9).toFixed(1)}%`;
}

/** A measured share, such as an accuracy, with two decimals: versions may differ by hundredths of a percent. */
export function formatShare(fraction: number): string {
  return `${(fraction * 100).toFixed(2)}%`;
}

/** A duration in its two largest units. */
export function formatSpan(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function formatDuration(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** Names a run by what was requested. */
export function describeTraining({ recipe, seed, data }: Training): string {
  return `${recipe} · ${data ?? "CIFAR-10"} · seed ${seed}`;
}

export function describeStatus({ status, phase, device, model, silent }: Training): string {
  if (status === "queued") return "Waiting for a worker";
  if (silent) return "The worker stopped responding. The next free worker resumes the training.";
  if (status === "running") return `Running: ${phase ?? "starting"}${device ? ` on ${device}` : ""}`;
  if (status === "succeeded") return `Published ${model}`;
  return statusLabels[status];
}

/** The latest epoch's estimate of the seconds left, minus the seconds since that epoch. */
export function estimateSecondsLeft({ seconds_left, timestamp }: Epoch, now: number): number {
  const passed = Math.max(0, now - Date.parse(timestamp)) / 1000; // clocks may differ
  return Math.max(0, seconds_left - passed);
}

/** A prediction's measurements and model, shown in small print on the card. */
export function describeMetrics({ metrics, model }: Prediction): string[] {
  const { queue_ms, batch_size, predict_ms } = metrics;
  const parts: string[] = [];
  if (queue_ms !== null) parts.push(`waited ${formatDuration(queue_ms)}`);
  if (batch_size !== null) parts.push(`batch of ${batch_size}`);
  if (predict_ms !== null) parts.push(`predicted in ${formatDuration(predict_ms)}`);
  if (model !== null) parts.push(`model ${model}`);
  return parts;
}
