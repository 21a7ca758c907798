import { UNFAMILIAR } from "./upload-status";

/** Marks an image that is probably none of the model's classes. */
export function UnfamiliarNote() {
  return (
    <span className="unfamiliar-note">
      <svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
        <circle cx="8" cy="8" r="7" />
        <path d="M5.9 6.2a2.1 2.1 0 1 1 3.2 1.8c-.7.4-1.1.8-1.1 1.6M8 11.6v.3" />
      </svg>
      {UNFAMILIAR}
    </span>
  );
}
