import { isLater, type MaybeLater } from "../../src/evaluation/evaluator.ts";
import type { Evaluation } from "../../src/evaluation/precedence.ts";
import type { MemoryNamespace } from "./memory-namespace.ts";
import { entityIdsOf, flagIdsOf, type Outcome } from "./outcomes.ts";

/** One kind of question: which outcome, and for how many flags at once. */
export interface Variant {
  /** Asks for every flag of the outcome once. */
  run(): void;
}

/** As many different questions as there are flags, in calls of `flagsPerCall`. Throws where an answer is wrong. */
export function createVariant(
  name: string,
  outcome: Outcome,
  { flagsPerCall, namespace }: { readonly flagsPerCall: number; readonly namespace: MemoryNamespace },
): Variant {
  const flagIds = flagIdsOf(name);
  const entityIds = entityIdsOf(outcome);
  const entityOf = (i: number) => entityIds[i % entityIds.length] ?? "";
  if (flagsPerCall === 1) {
    for (const [i, flagId] of flagIds.entries())
      check(name, outcome, atOnce(namespace.evaluate(flagId, entityOf(i))));
    return {
      run() {
        for (const [i, flagId] of flagIds.entries()) void namespace.evaluate(flagId, entityOf(i));
      },
    };
  }
  const calls = Array.from({ length: flagIds.length / flagsPerCall }, (_, i) =>
    flagIds.slice(i * flagsPerCall, (i + 1) * flagsPerCall),
  );
  for (const [i, call] of calls.entries())
    for (const answer of atOnce(namespace.evaluateMany(call, entityOf(i)))) check(name, outcome, answer);
  return {
    run() {
      for (const [i, call] of calls.entries()) void namespace.evaluateMany(call, entityOf(i));
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
