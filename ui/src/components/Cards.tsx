import { useRef } from "react";
import { type Card, MAX_CARDS, type Snapshot } from "../predictions";
import type { Upload } from "../upload-list";
import type { Place } from "./focus";
import { PassingButton } from "./PassingButton";
import { UploadCard } from "./UploadCard";

type Props = {
  cards: readonly Card[];
  further: Snapshot["further"];
  /** Where the next images are chosen; gets the focus of a card that goes. */
  chooser: Place;
  onTryAgain: (...uploads: Upload[]) => void;
  onDismiss: (upload: Upload) => void;
  onClear: () => void;
};

export function Cards({ cards, further, chooser, onTryAgain, onDismiss, onClear }: Props) {
  const heading = useRef<HTMLHeadingElement>(null);
  if (cards.length === 0) return null;
  return (
    <section aria-labelledby="cards-title">
      <div className="section-title">
        <h2 id="cards-title" ref={heading} tabIndex={-1}>
          Your uploads
        </h2>
        <PassingButton className="button quiet" heir={chooser} onClick={onClear}>
          Clear finished
        </PassingButton>
      </div>
      <ul className="cards">
        {cards.map(({ upload, prediction }) => (
          <li key={upload.key}>
            <UploadCard
              upload={upload}
              prediction={prediction}
              chooser={chooser}
              onTryAgain={onTryAgain}
              onDismiss={onDismiss}
            />
          </li>
        ))}
      </ul>
      <Further further={further} heading={heading} onTryAgain={onTryAgain} />
    </section>
  );
}

type FurtherProps = Pick<Props, "further" | "onTryAgain"> & { heading: Place };

/** What is still to say about the uploads that have no card. */
function Further({ further, heading, onTryAgain }: FurtherProps) {
  const { unfinished, refused } = further;
  if (unfinished + refused.length === 0) return null;
  const again = refused.filter(({ stage }) => stage.at === "refused" && stage.problem.passes);
  return (
    <div className="further">
      {unfinished > 0 && (
        <p>
          {unfinished} more on the way. The newest {MAX_CARDS} have a card; the others show in the history.
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
      {again.length > 0 && (
        <PassingButton heir={heading} onClick={() => onTryAgain(...again)}>
          Try {again.length} again
        </PassingButton>
      )}
    </div>
  );
}
