import type { Epoch, Prediction, Training } from "./api";
import { watchSight } from "./sight";

const REOPEN_MS = 3000;

export type Connection = "connecting" | "live" | "reconnecting";

type OnConnection = (connection: Connection) => void;
type OnEvent = Record<string, (event: MessageEvent) => void>;

type Handlers = {
  onPrediction: (prediction: Prediction) => void;
  onDeleted: (id: string) => void;
  /** The page may have missed anything: it reads the history again. */
  onReload: () => void;
  onConnection: OnConnection;
};

/** The one event stream that the page has in either view. */
export function followPredictions({ onPrediction, onDeleted, onReload, onConnection }: Handlers): () => void {
  return follow(
    "/api/events",
    {
      prediction: (event) => onPrediction(JSON.parse(event.data)),
      deleted: (event) => onDeleted(JSON.parse(event.data).id),
      reload: onReload,
    },
    onConnection,
  );
}

type TrainingHandlers = {
  onTraining: (training: Training) => void;
  onEpoch: (epoch: Epoch) => void;
  onConnection: OnConnection;
};

/** A run's own stream, for as long as it is looked at. */
export function followTraining(
  address: string,
  { onTraining, onEpoch, onConnection }: TrainingHandlers,
): () => void {
  return follow(
    address,
    {
      training: (event) => onTraining(JSON.parse(event.data)),
      epoch: (event) => onEpoch(JSON.parse(event.data)),
    },
    onConnection,
  );
}

/**
 * It never gives up; the function that it returns ends it. While nobody sees the page it is closed: browsers
 * allow six connections to a host over HTTP/1.1, and all tabs share them.
 */
function follow(address: string, onEvent: OnEvent, onConnection: OnConnection): () => void {
  let source: EventSource;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const open = () => {
    source = new EventSource(address);
    source.onopen = () => onConnection("live");
    for (const [name, handle] of Object.entries(onEvent)) source.addEventListener(name, handle);
    source.onerror = () => {
      onConnection("reconnecting");
      // After a dropped connection EventSource tries again by itself; after an error status it does not.
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, REOPEN_MS);
    };
  };
  const close = () => {
    clearTimeout(timer);
    source.close();
  };
  open();
  const stopWatching = watchSight({
    onAway: () => {
      close();
      onConnection("connecting"); // now: what comes from here on is not known to be without a gap
    },
    onBack: open,
  });
  return () => {
    stopWatching();
    close();
  };
}
