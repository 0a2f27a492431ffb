/** A time of the wall clock, in milliseconds since 1970, as machines and people exchange it: RFC 3339, in UTC. */
export function formatTimestamp(wallMs: number): string {
  return new Date(wallMs).toISOString();
}
