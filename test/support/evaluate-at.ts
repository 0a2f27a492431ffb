import type { TestEvaluation } from "./daemon.ts";
import { EVALUATE_PATH } from "./load.ts";

/** An answer to Evaluate, and the version that it says, as `epoch:revision`. */
export interface Evaluated {
  readonly answer: TestEvaluation;
  readonly version: string | undefined;
}

/** Asks an evaluator, over Connect with JSON. Rejects for an answer that is an error. */
export async function evaluateAt(
  url: string,
  question: { readonly flagId: string; readonly entityId?: string },
): Promise<Evaluated> {
  const response = await fetch(`${url}${EVALUATE_PATH}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(question),
  });
  const answer = await response.json();
  if (response.status !== 200) throw new Error(`Evaluate: ${response.status} ${JSON.stringify(answer)}`);
  return {
    answer: answer as TestEvaluation,
    version: response.headers.get("pbflags-version") ?? undefined,
  };
}
