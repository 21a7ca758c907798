import { useRef } from "react";
import { type Card, MAX_CARDS, type Snapshot } from "../predictions";
import type { Upload } from "../upload-list";
import type { FocusTarget } from "./focus";
import { SectionTitle } from "./SectionTitle";
import { TransientButton } from "./TransientButton";
import { UploadCard } from "./UploadCard";

type Props = {
  cards: readonly Card[];
  withoutCard: Snapshot["withoutCard"];
  /** The file input. It gets the focus when the button "Dismiss" or "Clear finished" disappears after its use. */
  chooser: FocusTarget;
  onRetry: (...uploads: Upload[]) => void;
  onDismiss: (upload: Upload) => void;
  onClear: () => void;
};

export function Cards({ cards, withoutCard, chooser, onRetry, onDismiss, onClear }: Props) {
  const heading = useRef<HTMLHeadingElement>(null);
  if (cards.length === 0) return null;
  return (
    <section aria-labelledby="cards-title">
      <SectionTitle id="cards-title" title="Your uploads" heading={heading}>
        <TransientButton className="button quiet" nextFocus={chooser} onClick={onClear}>
          Clear finished
        </TransientButton>
      </SectionTitle>
      <ul className="cards">
        {cards.map(({ upload, prediction }) => (
          <li key={upload.key}>
            <UploadCard
              upload={upload}
              prediction={prediction}
              chooser={chooser}
              onRetry={onRetry}
              onDismiss={onDismiss}
            />
          </li>
        ))}
      </ul>
      <UploadsWithoutCard withoutCard={withoutCard} heading={heading} onRetry={onRetry} />
    </section>
  );
}

type WithoutCardProps = Pick<Props, "withoutCard" | "onRetry"> & { heading: FocusTarget };

/** Counts the unfinished and the refused uploads that have no card, and lists the refused ones. */
function UploadsWithoutCard({ withoutCard, heading, onRetry }: WithoutCardProps) {
  const { unfinished, refused } = withoutCard;
  if (unfinished + refused.length === 0) return null;
  const retryable = refused.filter(({ stage }) => stage.at === "refused" && stage.problem.retryable);
  return (
    <div className="without-card">
      {unfinished > 0 && (
        <p>
          {unfinished} more in progress. Only the newest {MAX_CARDS} uploads have a card. The others appear in
          the history when they are accepted.
        </p>
      )}
      {refused.length > 0 && (
        <details>
          <summary>{refused.length} more could not be uploaded</summary>
          <ul>
            {refused.slice(0, MAX_CARDS).map(({ key, file, stage }) => (
              <li key={key}>
                <strong>{file.name}</strong>{" "}
                {stage.at === "refused" && `${stage.problem.title}. ${stage.problem.detail}`}
              </li>
            ))}
            {refused.length > MAX_CARDS && <li>and {refused.length - MAX_CARDS} others</li>}
          </ul>
        </details>
      )}
      {retryable.length > 0 && (
        <TransientButton nextFocus={heading} onClick={() => onRetry(...retryable)}>
          Try again ({retryable.length})
        </TransientButton>
      )}
    </div>
  );
}
