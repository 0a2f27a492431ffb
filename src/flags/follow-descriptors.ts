import { Alarm } from "../system/alarm.ts";
import type { Clock } from "../system/clock.ts";
import { FollowedSet, type FollowedSetOptions, type Question } from "./followed-set.ts";
import { type DescriptorWatch, ReloadQueue } from "./reload-queue.ts";
import type { ReloadResult } from "./take-table.ts";

export interface DescriptorFollowerOptions extends FollowedSetOptions {
  readonly clock: Clock;
  readonly random: () => number;
  /** How often to ask where nobody says that the set has changed: 30 s unless set. */
  readonly pollMs?: number;
  /** Called after every reload that was asked for, and whenever the upstream's set, or what becomes of it, is another. */
  readonly onReload: (result: ReloadResult) => void;
}

export interface DescriptorFollower extends DescriptorWatch {
  /** Asks the upstream soon. `announcedHash`: of the set that it says to have now, and had not before. */
  poke(announcedHash?: string): void;
  /** Why the upstream could not be asked last; undefined: it could. */
  readonly fetchFailure: string | undefined;
}

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5_000;
/** Share of each wait: proxies that were started together shall not ask together. */
const JITTER = 0.2;
/** From one question to the next, whoever pokes: what it is poked for may come of its own question. */
const REST_MS = 50;

/**
 * Keeps a flag table like the descriptor set of an upstream. A set that cannot be used changes nothing, and is not asked
 * for again before it has changed or a reload is forced. The first one is taken as a file at a start is, whatever was
 * kept: so a restart of a proxy takes up what a running one refuses.
 */
export function openDescriptorFollower(options: DescriptorFollowerOptions): DescriptorFollower {
  const stop = new AbortController();
  const alarm = new Alarm(options.clock);
  const followed = new FollowedSet(options, stop.signal);
  const queue = new ReloadQueue<Question>({
    attempt: (question) => followed.ask(question),
    onReload: options.onReload,
  });

  async function follow(): Promise<void> {
    let inVain = 0;
    while (!stop.signal.aborted) {
      await queue.request({ force: false, isAsked: false });
      inVain = followed.isSettled ? 0 : inVain + 1;
      await new Alarm(options.clock).wait(REST_MS, stop.signal);
      await alarm.wait(Math.max(0, waitMs(options, inVain) - REST_MS), stop.signal);
    }
  }

  const following = follow();
  return {
    reload: ({ force = false } = {}) => queue.request({ force, isAsked: true }),
    get lastResult() {
      return queue.lastResult;
    },
    get fetchFailure() {
      return followed.fetchFailure;
    },
    poke(announcedHash) {
      if (announcedHash !== undefined) followed.announce(announcedHash);
      alarm.ring();
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await following;
      await queue.ended();
    },
  };
}

function waitMs({ pollMs = 30_000, random }: DescriptorFollowerOptions, inVain: number): number {
  const ms = inVain === 0 ? pollMs : Math.min(RETRY_FIRST_MS * 2 ** (inVain - 1), RETRY_MAX_MS);
  return ms * (1 + JITTER * (2 * random() - 1));
}
