/** Words further apart than this only look alike by chance. */
const EDITS_MAX = 3;

/**
 * The candidate that someone who typed `word` most likely meant, or undefined if none is near.
 * `kill_ttl` finds `cache.kill_ttl`; otherwise a few letters may be wrong, missing or swapped.
 */
export function findNearest(word: string, candidates: Iterable<string>): string | undefined {
  const wanted = word.toLowerCase();
  if (wanted.length === 0 || wanted.length > 100) return undefined;
  let nearest: string | undefined;
  let least = Math.min(Math.floor(wanted.length / 3), EDITS_MAX) + 1;
  for (const candidate of candidates) {
    const known = candidate.toLowerCase();
    if (known.endsWith(`.${wanted}`)) return candidate;
    if (Math.abs(known.length - wanted.length) >= least) continue;
    const distance = countEdits(wanted, known);
    if (distance < least) [nearest, least] = [candidate, distance];
  }
  return nearest;
}

/** `, did you mean X?`, or nothing. */
export function suggest(word: string, candidates: Iterable<string>): string {
  const nearest = findNearest(word, candidates);
  return nearest === undefined ? "" : `, did you mean ${nearest}?`;
}

/** How many letters must be added, removed, replaced or swapped with their neighbour. */
function countEdits(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = at(last, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped =
        i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(before, j - 2) + 1 : Infinity;
      row.push(Math.min(at(last, j) + 1, at(row, j - 1) + 1, replaced, swapped));
    }
    [before, last] = [last, row];
  }
  return at(last, b.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Infinity;
}
