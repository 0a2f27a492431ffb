import { toPrintable, truncate, widthOf } from "./text-width.ts";

export interface TableOptions {
  /** The table's width in characters; cells are cut where it would be wider. */
  readonly width: number;
}

/** No cell is wider, so that one long value does not blow up every line of a long table. */
const CELL_WIDTH_MAX = 200;
/** No column gets narrower, however narrow the terminal is. */
const CELL_WIDTH_MIN = 6;
const GAP = "  ";

/** Rows in aligned columns under their headings, ending in a line break. Control characters are shown, not sent. */
export function formatTable(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  options: TableOptions,
): string {
  const lines = [headings, ...rows].map((cells) =>
    cells.map((cell) => truncate(toPrintable(cell), CELL_WIDTH_MAX)),
  );
  const widths = fit(widest(lines), options.width);
  return lines.map((cells) => `${formatLine(cells, widths)}\n`).join("");
}

/** Names before their values, one in a line. */
export function formatPairs(pairs: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...pairs.map(([name]) => widthOf(name)));
  return pairs.map(([name, value]) => `${pad(name, width)}${GAP}${toPrintable(value)}\n`).join("");
}

function formatLine(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((cell, column) => pad(truncate(cell, widths[column] ?? 0), widths[column] ?? 0))
    .join(GAP)
    .trimEnd();
}

function pad(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - widthOf(text)));
}

function widest(lines: readonly (readonly string[])[]): readonly number[] {
  const widths: number[] = [];
  for (const cells of lines) {
    for (const [column, cell] of cells.entries())
      widths[column] = Math.max(widths[column] ?? 0, widthOf(cell));
  }
  return widths;
}

/** Narrows the widest columns, and only those, until the table fits. */
function fit(widths: readonly number[], tableWidth: number): readonly number[] {
  const room = tableWidth - GAP.length * (widths.length - 1);
  let cap = Math.max(CELL_WIDTH_MIN, ...widths);
  const capped = () => widths.map((width) => Math.min(width, cap));
  while (cap > CELL_WIDTH_MIN && sum(capped()) > room) cap--;
  return capped();
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
