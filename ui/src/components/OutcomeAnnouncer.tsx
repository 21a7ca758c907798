import { useEffect, useRef, useState } from "react";
import type { Card } from "../predictions";
import { describeOutcome } from "./upload-status";

/** Tells screen readers how each upload with a card ended: once, and once more after each retry. */
export function OutcomeAnnouncer({ cards }: { cards: readonly Card[] }) {
  const announced = useRef(new Set<string>());
  const [latest, setLatest] = useState(new Set<string>());
  useEffect(() => {
    const ended = cards.filter(describeOutcome).map(({ upload }) => upload.key);
    const fresh = ended.filter((key) => !announced.current.has(key));
    announced.current = new Set(ended);
    if (fresh.length > 0) setLatest(new Set(fresh));
  }, [cards]);
  return (
    <div className="visually-hidden" aria-live="polite">
      {cards
        .filter((card) => latest.has(card.upload.key) && describeOutcome(card))
        .map((card) => (
          <p key={card.upload.key}>{describeOutcome(card)}</p>
        ))}
    </div>
  );
}
