import { DeadlineError, type DeadlineOptions, withDeadline } from "../upstream/transport/deadline.ts";
import { linkSignals } from "../upstream/transport/linked-signal.ts";

export interface PatienceOptions extends DeadlineOptions {
  /** Longest time without a word of the other side. */
  readonly silenceMs: number;
}

/** How long something may take that goes on for as long as the other side is heard. */
export interface Patience {
  /** Aborts with a DeadlineError when it has been silent for too long, or all took too long. */
  readonly signal: AbortSignal;
  /** To be called with each sign of life: the silence begins anew. */
  readonly heard: () => void;
}

/** As `withDeadline`, for what has many steps: a side that is silent is given up long before one that is far away. */
export function withPatience<T>(
  { silenceMs, ...options }: PatienceOptions,
  run: (patience: Patience) => Promise<T>,
): Promise<T> {
  return withDeadline(options, async (deadline) => {
    const silence = new AbortController();
    using either = linkSignals(deadline.signal, silence.signal);
    const giveUp = () => silence.abort(new DeadlineError(`no answer within ${Math.round(silenceMs)} ms`));
    let cancel = options.clock.after(silenceMs, giveUp);
    let isOver = false;
    try {
      return await run({
        signal: either.signal,
        heard() {
          cancel();
          if (!isOver) cancel = options.clock.after(silenceMs, giveUp);
        },
      });
    } finally {
      isOver = true;
      cancel();
    }
  });
}
