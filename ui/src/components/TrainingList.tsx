import type { Training } from "../api";
import { describeTraining } from "../format";
import { statusLabels } from "../status";
import { Age } from "./Age";
import { useNow } from "./now";

type Props = {
  trainings: readonly Training[];
  shown: Training | null;
  onSelect: (id: string) => void;
};

export function TrainingList({ trainings, shown, onSelect }: Props) {
  const now = useNow(30_000);
  return (
    <div>
      <h3 id="runs-title">Recent trainings</h3>
      <ul className="runs" aria-labelledby="runs-title">
        {trainings.map((training) => (
          <li key={training.id}>
            <button
              type="button"
              aria-current={training.id === shown?.id}
              onClick={() => onSelect(training.id)}
            >
              <span className="run-name">{describeTraining(training)}</span>
              <span className={`outcome ${training.status}`}>{statusLabels[training.status]}</span>
              <Age moment={training.timestamp} now={now} />
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
