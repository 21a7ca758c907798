import type { Connection } from "../stream";
import { addresses, type View } from "../view";

const labels: Record<Connection, string> = {
  connecting: "Connecting…",
  live: "Live",
  reconnecting: "Reconnecting…",
};
const tooltips: Record<Connection, string> = {
  connecting: "The page is connecting to the live updates",
  live: "New predictions and outcomes appear as they happen",
  reconnecting: "The live updates were interrupted. The page is reconnecting.",
};

export function Header({ connection, view }: { connection: Connection; view: View }) {
  return (
    <header className="top">
      <div className="top-row">
        <h1>
          <img src="/icon.svg" alt="" width="22" height="22" />
          Image classification
        </h1>
        <span className={`connection ${connection}`} role="status" title={tooltips[connection]}>
          {labels[connection]}
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
