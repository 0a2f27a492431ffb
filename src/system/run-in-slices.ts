import { setImmediate } from "node:timers/promises";

/**
 * Runs a long computation without holding up the rest of the process: after every `sliceMs` of work,
 * whatever else is ready gets its turn. Each `yield` of `steps` is a place to pause.
 */
export async function runInSlices<T>(steps: Iterator<unknown, T, void>, sliceMs = 5): Promise<T> {
  for (;;) {
    const until = performance.now() + sliceMs;
    do {
      const step = steps.next();
      if (step.done === true) return step.value;
    } while (performance.now() < until);
    await giveWay();
  }
}

/** Whatever else is ready gets its turn. */
export function giveWay(): Promise<void> {
  return setImmediate();
}

/** Runs the same computation at once. */
export function runAtOnce<T>(steps: Iterator<unknown, T, void>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
