import type { Connection } from "../stream";
import { addresses, type View } from "../view";

const words: Record<Connection, string> = {
  connecting: "Connecting…",
  live: "Live",
  reconnecting: "Reconnecting…",
};
const meanings: Record<Connection, string> = {
  connecting: "Opening the stream of live updates",
  live: "New predictions and outcomes show here as they happen",
  reconnecting: "The stream of live updates broke off; it is being opened again",
};

export function Header({ connection, view }: { connection: Connection; view: View }) {
  return (
    <header className="top">
      <div className="top-row">
        <h1>
          <img src="/icon.svg" alt="" width="22" height="22" />
          Image classification
        </h1>
        <span className={`connection ${connection}`} role="status" title={meanings[connection]}>
          {words[connection]}
        </span>
        <nav aria-label="Pages">
          <a href={addresses.upload} aria-current={view === "upload" ? "page" : undefined}>
            Upload
          </a>
          <a href={addresses.models} aria-current={view === "models" ? "page" : undefined}>
            Models
          </a>
          <a href="/docs">API</a>
          <a href="/flower/">Flower</a>
          <a href="/rabbitmq/">RabbitMQ</a>
        </nav>
      </div>
    </header>
  );
}
