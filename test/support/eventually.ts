import { setTimeout } from "node:timers/promises";

export interface EventuallyOptions {
  /** 30 s unless set: generous, because a test that passes does not wait for it. */
  readonly timeoutMs?: number;
  /** What is waited for, for the message; the condition's own text unless set. */
  readonly what?: string;
}

/** Resolves as soon as the condition is true; rejects, saying what was waited for, if it never is. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  options: EventuallyOptions = {},
): Promise<void> {
  const { timeoutMs = 30_000, what = condition.toString() } = options;
  const giveUpAt = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > giveUpAt) throw new Error(`Not true within ${timeoutMs} ms: ${what}`);
    await setTimeout(10);
  }
}
