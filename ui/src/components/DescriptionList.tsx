import type { ReactNode } from "react";

export type Entry = [name: string, value: ReactNode];

export function DescriptionList({ entries }: { entries: readonly Entry[] }) {
  return (
    <dl className="description-list">
      {entries.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
