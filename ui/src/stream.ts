import type { Prediction } from "./api";
import type { Connection } from "./predictions";

const REOPEN_MS = 3000;

type Handlers = {
  onPrediction: (prediction: Prediction) => void;
  onConnection: (connection: Connection) => void;
};

/** The one event stream of the page. It never gives up. */
export function followPredictions({ onPrediction, onConnection }: Handlers): void {
  const source = new EventSource("/api/events");
  source.onopen = () => onConnection("live");
  source.addEventListener("prediction", (event) => onPrediction(JSON.parse(event.data)));
  source.onerror = () => {
    onConnection("reconnecting");
    // After a dropped connection EventSource tries again by itself; after an error status it does not.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => followPredictions({ onPrediction, onConnection }), REOPEN_MS);
    }
  };
}
