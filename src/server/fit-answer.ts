import type { FlagRow, OverrideRow } from "../gen/pbflagd/v1/state_pb.ts";
import type { KnownRow } from "../namespaces/namespace.ts";

/** Of rows in one answer. Callers take 8 MiB in all. */
const ROWS_BYTES_MAX = 4 * 1024 * 1024;
/** Reading a row takes its time, however short it is: some ten thousand may be read without holding up all else. */
const ROW_COST_BYTES = 300;
/** Of what one flag or entity has: then it is alone. */
const ALONE_BYTES_MAX = 6 * 1024 * 1024;

/**
 * Leaves out what does not go into one answer: it is unknown then, and told to whoever asks for it again, first of all.
 * What is too large even alone is told without its values, as invalid.
 */
export function fitAnswer<R extends FlagRow | OverrideRow>(
  all: readonly KnownRow<readonly R[]>[],
  bytesOf: (row: R) => number,
): readonly KnownRow<readonly R[]>[] {
  let left = ROWS_BYTES_MAX;
  return all.map((known) => {
    if (known.kind === "unknown" || known.value === undefined) return known;
    // Not even looked at: what does not fit may be many times what does.
    if (left <= 0) return { kind: "unknown" };
    const rows = portable(known.value, bytesOf);
    const bytes = sum(rows, bytesOf) + rows.length * ROW_COST_BYTES;
    if (bytes > left && left < ROWS_BYTES_MAX) return { kind: "unknown" };
    left -= bytes;
    return { ...known, value: rows };
  });
}

function portable<R extends FlagRow | OverrideRow>(
  rows: readonly R[],
  bytesOf: (row: R) => number,
): readonly R[] {
  const bytes = sum(rows, bytesOf);
  if (bytes <= ALONE_BYTES_MAX) return rows;
  const invalid = `expected at most ${ALONE_BYTES_MAX} bytes to hand on, got ${bytes}`;
  return rows.map((row) => ({ ...row, value: undefined, invalid }));
}

function sum<R>(rows: readonly R[], bytesOf: (row: R) => number): number {
  return rows.reduce((bytes, row) => bytes + bytesOf(row), 0);
}
