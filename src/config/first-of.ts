/** Nobody reads more of them. */
export const PROBLEMS_MAX = 20;

/** The first twenty problems, and how many there are besides. */
export function firstOf(problems: readonly string[]): readonly string[] {
  const rest = problems.length - PROBLEMS_MAX;
  return rest > 0 ? [...problems.slice(0, PROBLEMS_MAX), `and ${rest} more`] : problems;
}
