import { Alarm } from "../system/alarm.ts";
import type { Clock } from "../system/clock.ts";

export interface AttendOptions {
  readonly alarm: Alarm;
  /** Must not throw. */
  readonly act: () => void;
  /** From one act to the next. What rings meanwhile is attended to after it, once. */
  readonly restMs: number;
  /** From the ring to the act; asked for each. Unset: none. */
  readonly delayMs?: () => number;
  readonly clock: Pick<Clock, "sleep">;
}

/**
 * Acts when the alarm rings, but not again before a rest, until `signal` aborts. For what may ring itself by
 * acting: a store that answers one question and fails another is lost and found again without end.
 */
export async function attend(
  { alarm, act, restMs, delayMs = () => 0, clock }: AttendOptions,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await alarm.wait(Infinity, signal);
    const waitMs = delayMs();
    if (waitMs > 0) await new Alarm(clock).wait(waitMs, signal);
    if (signal.aborted) return;
    act();
    await new Alarm(clock).wait(restMs, signal);
  }
}
