import { parseArgs } from "node:util";
import { createCountingVariant } from "./evaluate/counting.ts";
import { type MemoryNamespace, openMemoryNamespace } from "./evaluate/memory-namespace.ts";
import { FLAGS_PER_OUTCOME, OUTCOMES } from "./evaluate/outcomes.ts";
import { createVariant, type Variant, type VariantOptions } from "./evaluate/questions.ts";
import { interleave } from "./interleave.ts";
import { describeMachine } from "./machine.ts";
import { median, spread, toTable } from "./table.ts";
import { wholeNumber } from "./whole-number.ts";

// How long an evaluation takes in process, by what it comes to: no wire, everything in memory.

const { values: options } = parseArgs({
  options: { rounds: { type: "string", default: "9" }, evaluations: { type: "string", default: "200000" } },
});
const rounds = wholeNumber("rounds", options.rounds);
const evaluations = wholeNumber("evaluations", options.evaluations);

/** By what the table calls it. */
const CALLS: ReadonlyMap<string, Omit<VariantOptions, "namespace">> = new Map([
  ["1", { flagsPerCall: 1, isAgain: false }],
  ["10", { flagsPerCall: 10, isAgain: true }],
  ["100", { flagsPerCall: 100, isAgain: true }],
  ["1000", { flagsPerCall: 1_000, isAgain: true }],
  ["1000, new", { flagsPerCall: 1_000, isAgain: false }],
  ["1, changed", { flagsPerCall: 1, isAgain: false, isChanging: true }],
  ["1000, changed", { flagsPerCall: 1_000, isAgain: false, isChanging: true }],
]);

await using fresh = await openMemoryNamespace({ isPastTtl: false });
await using stale = await openMemoryNamespace({ isPastTtl: true });
const variants = createVariants({ fresh, stale });
const runsARound = Math.ceil(evaluations / FLAGS_PER_OUTCOME);

function createVariants(namespaces: {
  readonly fresh: MemoryNamespace;
  readonly stale: MemoryNamespace;
}): ReadonlyMap<string, Variant> {
  const evaluating = [...OUTCOMES].flatMap(([name, outcome]) =>
    [...CALLS].flatMap(([call, options]) => {
      // Whose refresh is under way learns nothing.
      if (outcome.isPastTtl && options.isChanging === true) return [];
      const namespace = outcome.isPastTtl ? namespaces.stale : namespaces.fresh;
      return [[`${name} | ${call}`, createVariant(name, outcome, { ...options, namespace })] as const];
    }),
  );
  return new Map([...evaluating, ["the call in the metrics | 1", createCountingVariant()]]);
}

/** Both in nanoseconds an evaluation. On a machine that others use too, the processor's time is the steadier one. */
interface Measured {
  readonly wall: number;
  /** Of the whole process: what collects its garbage included. */
  readonly cpu: number;
}

async function measure(variant: Variant): Promise<Measured> {
  const runsAtOnce = variant.prepare === undefined ? runsARound : 1;
  let [wall, cpu] = [0, 0];
  for (let done = 0; done < runsARound; done += runsAtOnce) {
    await variant.prepare?.();
    const startedAt = process.hrtime.bigint();
    const cpuBefore = process.cpuUsage();
    for (let i = 0; i < runsAtOnce; i++) variant.run();
    const { user, system } = process.cpuUsage(cpuBefore);
    wall += Number(process.hrtime.bigint() - startedAt);
    cpu += 1_000 * (user + system);
  }
  const count = runsARound * FLAGS_PER_OUTCOME;
  return { wall: wall / count, cpu: cpu / count };
}

// What was compiled while the machine was still learning is not what runs later.
await interleave(variants, { rounds: 2, measure });
const measured = await interleave(variants, { rounds, measure });
const cpuOf = (name: string) => median((measured.get(name) ?? []).map(({ cpu }) => cpu));

const evaluationsARound = runsARound * FLAGS_PER_OUTCOME;
console.log(
  `\n${describeMachine()}, ${FLAGS_PER_OUTCOME * OUTCOMES.size} flags, ${rounds} rounds of ${evaluationsARound} evaluations\n`,
);
console.log(
  toTable(
    ["Outcome", "Flags a call", "ns an evaluation", "min–max", "ns of CPU", "CPU to a single one"],
    [...measured].map(([name, times]) => {
      const [outcome = "", call = ""] = name.split(" | ");
      const walls = times.map(({ wall }) => wall);
      const ratio = (cpuOf(name) / cpuOf(`${outcome} | 1`)).toFixed(2);
      return [outcome, call, median(walls).toFixed(0), spread(walls), cpuOf(name).toFixed(0), ratio];
    }),
  ),
);
