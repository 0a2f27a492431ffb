/** When the slice of this turn of the event loop ends; undefined while there has been none. */
let sliceEnds: number | undefined;
/** What is paused. In each turn the first of them goes on. */
const paused: (() => void)[] = [];
let isTurnAwaited = false;

/**
 * Runs a long computation without holding up the rest of the process: after every `sliceMs` of work,
 * whatever else is ready gets its turn. Each `yield` of `steps` is a place to pause. Of computations that run side by side
 * there is one slice a turn, not one of each.
 */
export async function runInSlices<T>(steps: Iterator<unknown, T, void>, sliceMs = 5): Promise<T> {
  if (sliceEnds !== undefined && performance.now() >= sliceEnds) await giveWay();
  for (;;) {
    const until = (sliceEnds ??= performance.now() + sliceMs);
    awaitTurn();
    do {
      const step = steps.next();
      if (step.done === true) return step.value;
    } while (performance.now() < until);
    await giveWay();
  }
}

/** Whatever else is ready gets its turn. */
export function giveWay(): Promise<void> {
  return new Promise((resolve) => {
    paused.push(resolve);
    awaitTurn();
  });
}

function awaitTurn(): void {
  if (isTurnAwaited) return;
  isTurnAwaited = true;
  setImmediate(() => {
    isTurnAwaited = false;
    sliceEnds = undefined;
    paused.shift()?.();
    if (paused.length > 0) awaitTurn();
  });
}

/** Runs the same computation at once. */
export function runAtOnce<T>(steps: Iterator<unknown, T, void>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
