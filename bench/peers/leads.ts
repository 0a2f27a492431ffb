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

/** Of what less is better, and how it is said of a peer that has less of it. */
const COSTS: readonly (readonly [verb: string, what: string, of: (each: Measured) => number])[] = [
  ["has", "p50", ({ latencyMs }) => latencyMs.p50],
  ["has", "p99", ({ latencyMs }) => latencyMs.p99],
  ["has", "p99.9", ({ latencyMs }) => latencyMs.p999],
  ["takes", "processor time", ({ cpuMicrosPerRequest }) => cpuMicrosPerRequest],
  ["takes", "memory", ({ residentBytes }) => residentBytes],
];

function leadsOf(theirs: readonly Measured[], own: readonly Measured[]): readonly string[] {
  const ratio = (of: (each: Measured) => number) =>
    median(theirs.map((each, i) => of(each) / of(own[i] ?? each)));
  const rate = ratio(({ requestsPerSecond }) => requestsPerSecond);
  const answersMore = rate > 1 ? [`answers ${rate.toFixed(2)} times as many requests`] : [];
  const costsLess = COSTS.flatMap(([verb, what, of]) => {
    const share = ratio(of);
    return share < 1 ? [`${verb} ${share.toFixed(2)} of the ${what}`] : [];
  });
  return [...answersMore, ...costsLess];
}
