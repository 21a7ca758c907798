import type { Epoch, Prediction, Training } from "./api";
import { watchVisibility } from "./visibility";

const REOPEN_MS = 3000;

export type Connection = "connecting" | "live" | "reconnecting";

type OnConnection = (connection: Connection) => void;
type EventHandlers = Record<string, (data: never) => void>; // each handler declares the type of its event's data

type Handlers = {
  onPrediction: (prediction: Prediction) => void;
  onDeleted: (id: string) => void;
  /** The stream could not be resumed: the history must be read again. */
  onReload: () => void;
  onConnection: OnConnection;
};

/** Opens the stream of all predictions. Returns a function that closes it. */
export function followPredictions({ onPrediction, onDeleted, onReload, onConnection }: Handlers): () => void {
  return follow(
    "/api/events",
    {
      prediction: onPrediction,
      deleted: ({ id }: Pick<Prediction, "id">) => onDeleted(id),
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

/** Opens the stream of one training. Returns a function that closes it. */
export function followTraining(
  address: string,
  { onTraining, onEpoch, onConnection }: TrainingHandlers,
): () => void {
  return follow(address, { training: onTraining, epoch: onEpoch }, onConnection);
}

/**
 * Opens a stream and reopens it after errors, without limit. Returns a function that closes it.
 *
 * The stream is closed when the page has been hidden for 30 seconds: over HTTP/1.1 browsers allow six
 * connections to a host, and all tabs share them.
 */
function follow(address: string, handlers: EventHandlers, onConnection: OnConnection): () => void {
  let source: EventSource;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const open = () => {
    source = new EventSource(address);
    source.onopen = () => onConnection("live");
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, ({ data }: MessageEvent) => handle(JSON.parse(data) as never));
    }
    source.onerror = () => {
      onConnection("reconnecting");
      // EventSource reconnects by itself after a dropped connection, but not after an error status.
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, REOPEN_MS);
    };
  };
  const close = () => {
    clearTimeout(timer);
    source.close();
  };
  open();
  const stopWatching = watchVisibility({
    onHidden: () => {
      close();
      onConnection("connecting"); // from now until the stream is open again, events may be missed
    },
    onVisible: open,
  });
  return () => {
    stopWatching();
    close();
  };
}
