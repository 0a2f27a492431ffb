import { BulkMemory, isLater, type MaybeLater } from "../../src/evaluation/evaluator.ts";
import type { Evaluation } from "../../src/evaluation/precedence.ts";
import type { MemoryNamespace } from "./memory-namespace.ts";
import { entityIdsOf, flagIdsOf, type Outcome } from "./outcomes.ts";

/** One kind of question: which outcome, and for how many flags at once. */
export interface Variant {
  /** To be called before each run, if there is one. */
  readonly prepare?: () => Promise<void>;
  /** Asks for every flag of the outcome once. */
  run(): void;
}

export interface VariantOptions {
  readonly flagsPerCall: number;
  /** Whether calls for several flags come with what the last one for the same flags found out, as a server's do. */
  readonly isAgain: boolean;
  /** Whether something else is learnt before all flags are asked for, each once. Unset: nothing is. */
  readonly isChanging?: boolean;
  readonly namespace: MemoryNamespace;
}

/** As many different questions as there are flags, in calls of `flagsPerCall`. Throws where an answer is wrong. */
export function createVariant(
  name: string,
  outcome: Outcome,
  { flagsPerCall, isAgain, isChanging = false, namespace }: VariantOptions,
): Variant {
  const flagIds = flagIdsOf(name);
  const entityIds = entityIdsOf(outcome);
  const preparing = isChanging ? { prepare: () => namespace.learn() } : {};
  const entityOf = (i: number) => entityIds[i % entityIds.length] ?? "";
  if (flagsPerCall === 1) {
    for (const [i, flagId] of flagIds.entries())
      check(name, outcome, atOnce(namespace.evaluate(flagId, entityOf(i))));
    return {
      ...preparing,
      run() {
        for (const [i, flagId] of flagIds.entries()) void namespace.evaluate(flagId, entityOf(i));
      },
    };
  }
  const calls = Array.from({ length: flagIds.length / flagsPerCall }, (_, i) => ({
    asked: flagIds.slice(i * flagsPerCall, (i + 1) * flagsPerCall),
    entityId: entityOf(i),
    memory: isAgain ? new BulkMemory() : undefined,
  }));
  for (const { asked, entityId, memory } of [...calls, ...calls])
    for (const answer of atOnce(namespace.evaluateMany(asked, entityId, memory)))
      check(name, outcome, answer);
  return {
    ...preparing,
    run() {
      for (const { asked, entityId, memory } of calls) void namespace.evaluateMany(asked, entityId, memory);
    },
  };
}

function atOnce<T>(answer: MaybeLater<T>): T {
  if (isLater(answer))
    throw new Error("Cannot measure: an answer that should be in memory has to be waited for");
  return answer;
}

function check(name: string, { source, value }: Outcome, answer: Evaluation): void {
  const got = answer.value?.value.value;
  if (answer.source === source && got === value) return;
  throw new Error(
    `Cannot measure "${name}": expected ${source} "${value}", got ${answer.source} ${JSON.stringify(got)}`,
  );
}
