/** Sorts newest first. Ids are UUIDs of version 7, which sort by time. */
export function newestFirst(a: { id: string }, b: { id: string }): number {
  return a.id < b.id ? 1 : -1;
}
