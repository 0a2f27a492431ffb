import type { MeasuredContest } from "../contest.ts";
import type { Measured } from "../load/load.ts";
import { median } from "../table.ts";

/** A line for everything in which somebody was ahead of `ours`. */
export function describeLeads(contests: readonly MeasuredContest[], ours: string): readonly string[] {
  return contests.flatMap(({ protocol, question, results }) => {
    const own = results.get(ours) ?? [];
    return [...results]
      .filter(([name]) => name !== ours)
      .flatMap(([name, theirs]) =>
        leadsOf(theirs, own).map((lead) => `- ${protocol}, ${question}: ${name} ${lead}`),
      );
  });
}

function leadsOf(theirs: readonly Measured[], own: readonly Measured[]): readonly string[] {
  const ratio = (of: (each: Measured) => number) =>
    median(theirs.map((each, i) => of(each) / of(own[i] ?? each)));
  const rate = ratio(({ requestsPerSecond }) => requestsPerSecond);
  const p99 = ratio(({ latencyMs }) => latencyMs.p99);
  const resident = ratio(({ residentBytes }) => residentBytes);
  return [
    ...(rate > 1 ? [`answers ${rate.toFixed(2)} times as many requests`] : []),
    ...(p99 < 1 ? [`has ${p99.toFixed(2)} of the p99`] : []),
    ...(resident < 1 ? [`takes ${resident.toFixed(2)} of the memory`] : []),
  ];
}
