import { interleave } from "./interleave.ts";
import { type Load, type Measured, measureLoad } from "./load/load.ts";
import type { ServerProcess } from "./servers/server-process.ts";
import { median, spread, toTable } from "./table.ts";

/** One of the servers that do the same, and how it is asked for it. */
export interface Contender {
  readonly server: ServerProcess;
  readonly load: Load;
}

/** What is measured of several servers in turn. */
export interface Contest {
  readonly protocol: string;
  readonly question: string;
  /** By what the table calls them. */
  readonly contenders: ReadonlyMap<string, Contender>;
}

export interface MeasuredContest extends Omit<Contest, "contenders"> {
  /** A result a round. */
  readonly results: ReadonlyMap<string, readonly Measured[]>;
}

export interface ContestOptions {
  readonly rounds: number;
  /** Of each round. */
  readonly seconds: number;
  /** Before the first round. */
  readonly warmUpSeconds: number;
  readonly folder: string;
}

export async function measureContest(contest: Contest, options: ContestOptions): Promise<MeasuredContest> {
  const { rounds, seconds, warmUpSeconds, folder } = options;
  const { protocol, question, contenders } = contest;
  for (const { server, load } of contenders.values())
    await measureLoad(server, { load, seconds: warmUpSeconds, folder });
  const results = await interleave(contenders, {
    rounds,
    measure: ({ server, load }) => measureLoad(server, { load, seconds, folder }),
  });
  return { protocol, question, results };
}

/** All that was measured, as a table in Markdown. `ratiosTo`: each round's rates are compared with theirs. */
export function describeContests(
  contests: readonly MeasuredContest[],
  { ratiosTo }: { readonly ratiosTo: readonly string[] },
): string {
  const head = [
    ...["Protocol", "Asked for", "Server", "req/s", "min–max"],
    ...ratiosTo.map((name) => `to ${name}`),
    ...["p50 ms", "p99", "p99.9", "CPU µs a request", "RSS MiB"],
  ];
  return toTable(
    head,
    contests.flatMap(({ protocol, question, results }) =>
      [...results].map(([name, measured]) => [
        ...[protocol, question, name],
        ...describeRates(measured),
        ...ratiosTo.map((base) => describeRatio(measured, results.get(base))),
        ...describeCosts(measured),
      ]),
    ),
  );
}

function describeRates(measured: readonly Measured[]): readonly string[] {
  const rates = measured.map(({ requestsPerSecond }) => requestsPerSecond);
  return [median(rates).toFixed(0), spread(rates)];
}

/** Of rates, pair by pair. */
function describeRatio(measured: readonly Measured[], base: readonly Measured[] | undefined): string {
  if (base === undefined) return "";
  const ratios = measured.map(
    ({ requestsPerSecond }, i) => requestsPerSecond / (base[i]?.requestsPerSecond ?? Number.NaN),
  );
  return median(ratios).toFixed(2);
}

function describeCosts(measured: readonly Measured[]): readonly string[] {
  const middle = (of: (each: Measured) => number) => median(measured.map(of));
  return [
    middle(({ latencyMs }) => latencyMs.p50).toFixed(2),
    middle(({ latencyMs }) => latencyMs.p99).toFixed(2),
    middle(({ latencyMs }) => latencyMs.p999).toFixed(2),
    middle(({ cpuMicrosPerRequest }) => cpuMicrosPerRequest).toFixed(1),
    middle(({ residentBytes }) => residentBytes / 2 ** 20).toFixed(0),
  ];
}
