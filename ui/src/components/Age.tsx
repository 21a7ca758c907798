import { formatAge, formatMoment } from "../format";

/** How long ago `moment` was; the tooltip gives the date and the time. */
export function Age({ moment, now }: { moment: string; now: number }) {
  return (
    <time dateTime={moment} title={formatMoment(moment)}>
      {formatAge(moment, now)}
    </time>
  );
}
