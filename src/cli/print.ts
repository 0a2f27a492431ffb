import type { Io } from "./io.ts";
import { formatTable } from "./table.ts";

/** Prints rows as a table that fits the terminal, or as a JSON array for machines. */
export function printRows<R>(io: Io, rows: readonly R[], options: PrintOptions<R>): void {
  if (options.json) return printJson(io, rows);
  const headings = Object.keys(options.columns);
  const cells = rows.map((row) => Object.values(options.columns).map((cellOf) => cellOf(row)));
  if (rows.length === 0) io.stderr(`${options.none}\n`);
  else io.stdout(formatTable(headings, cells, { width: widthFor(io) }));
}

export interface PrintOptions<R> {
  readonly json: boolean;
  /** Headings and what stands below them. */
  readonly columns: Readonly<Record<string, (row: R) => string>>;
  /** Said on the standard error where a table would be empty. */
  readonly none: string;
}

export function printJson(io: Io, value: unknown): void {
  io.stdout(`${JSON.stringify(value, undefined, 2)}\n`);
}

/** How wide a table may be. Where no person reads it, nothing is cut to fit. */
export function widthFor(io: Io): number {
  return io.isTerminal ? io.columns : Number.POSITIVE_INFINITY;
}
