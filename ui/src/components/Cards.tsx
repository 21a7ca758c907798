import { type Card, MAX_CARDS, type Snapshot, type Upload } from "../predictions";
import { UploadCard } from "./UploadCard";

type Props = {
  cards: readonly Card[];
  further: Snapshot["further"];
  onTryAgain: (...uploads: Upload[]) => void;
  onClear: () => void;
};

export function Cards({ cards, further, onTryAgain, onClear }: Props) {
  if (cards.length === 0) return null;
  return (
    <section aria-labelledby="cards-title">
      <div className="section-title">
        <h2 id="cards-title">Your uploads</h2>
        <button type="button" className="button quiet" onClick={onClear}>
          Clear finished
        </button>
      </div>
      <ul className="cards">
        {cards.map(({ upload, prediction }) => (
          <li key={upload.key}>
            <UploadCard upload={upload} prediction={prediction} onTryAgain={onTryAgain} />
          </li>
        ))}
      </ul>
      <Further further={further} onTryAgain={onTryAgain} />
    </section>
  );
}

/** What is still to say about the uploads that have no card. */
function Further({ further, onTryAgain }: Pick<Props, "further" | "onTryAgain">) {
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
          </ul>
        </details>
      )}
      {again.length > 0 && (
        <button type="button" className="button" onClick={() => onTryAgain(...again)}>
          Try {again.length} again
        </button>
      )}
    </div>
  );
}
