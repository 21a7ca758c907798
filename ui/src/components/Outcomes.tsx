import { useEffect, useRef, useState } from "react";
import type { Card } from "../predictions";
import { describeOutcome } from "./headline";

/** Tells screen readers how uploads end, in either view and by their names. */
export function Outcomes({ cards }: { cards: readonly Card[] }) {
  const told = useRef(new Set<string>());
  const [latest, setLatest] = useState(new Set<string>());
  useEffect(() => {
    const ended = cards.filter(describeOutcome).map(({ upload }) => upload.key);
    const fresh = ended.filter((key) => !told.current.has(key));
    told.current = new Set(ended);
    if (fresh.length > 0) setLatest(new Set(fresh));
  }, [cards]);
  return (
    <div className="unseen" aria-live="polite">
      {cards
        .filter((card) => latest.has(card.upload.key) && describeOutcome(card))
        .map((card) => (
          <p key={card.upload.key}>{describeOutcome(card)}</p>
        ))}
    </div>
  );
}
