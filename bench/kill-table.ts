import { CHANGE_KINDS } from "./changes.ts";
import type { Measured } from "./measure-kills.ts";
import { toTable } from "./table.ts";

const HEAD = [
  "Followers",
  "Other changes/s",
  "Where",
  ...["Kill", "Revive", "Value", "Override"].flatMap((change) => [`${change} p50 ms`, "p99", "max"]),
  "CPU %",
  "RSS MiB",
  "Reads a change",
];

/** All that was measured, as a table in Markdown. */
export function describeKills(measured: readonly Measured[]): string {
  return toTable(
    HEAD,
    measured.flatMap((each) => rowsOf(each)),
  );
}

function rowsOf(measured: Measured): readonly (readonly string[])[] {
  const { followers, othersPerSecond, seconds, changes, tiers, lastFollowerMs } = measured;
  const circumstances = [String(followers), String(othersPerSecond)];
  return [
    ...tiers.map((tier) => [
      ...circumstances,
      tier.name,
      ...CHANGE_KINDS.flatMap((kind) => times(tier.tookMs[kind])),
      ((100 * tier.cpuSeconds) / seconds).toFixed(1),
      (tier.residentBytes / 2 ** 20).toFixed(0),
      (tier.storeCalls / changes).toFixed(2),
    ]),
    ...(followers === 0 ? [] : [filledUp([...circumstances, "the last follower", ...times(lastFollowerMs)])]),
  ];
}

function filledUp(cells: readonly string[]): readonly string[] {
  return HEAD.map((_, i) => cells[i] ?? "");
}

/** Median, the 99th in a hundred (the nearest rank) and the longest, in milliseconds. */
function times(timesMs: readonly number[]): readonly string[] {
  const sorted = timesMs.toSorted((a, b) => a - b);
  return [0.5, 0.99, 1].map((share) =>
    (sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN).toFixed(1),
  );
}
