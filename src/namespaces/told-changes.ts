import { isAtLeast, isSameVersion, type Version } from "../evaluation/version.ts";
import type { ChangeNotice } from "../kills/change-feed.ts";
import type { Clock } from "../system/clock.ts";

export interface ToldChangesOptions {
  /** The version of the kill set in force. */
  readonly known: () => Version | undefined;
  /** Has the kill set polled at once. */
  readonly look: () => void;
  /** Has `restEnds` called, at once or at the end of the rest between polls that notices have caused. */
  readonly lookAfterRest: () => void;
  /** Has `lookAgain` called after `BEHIND_PAUSE_MS`. */
  readonly lookLater: () => void;
  readonly clock: Pick<Clock, "now">;
}

/** A version that a notice told of, and until when it is looked for. */
interface Told {
  readonly version: Version;
  readonly until: number;
}

/** Between two polls that did not rest, because a kill was told. */
const URGENT_REST_MS = 1_200;

/**
 * After a poll that did not bring what a notice said there is, and for how long it is asked for again: anybody may send a
 * notice of what will never be.
 */
export const BEHIND_PAUSE_MS = 100;
const BEHIND_MAX_MS = 2_000;

/** What notices have told of, and when it is looked for. What they say is no reason to believe it. */
export class ToldChanges {
  readonly #options: ToldChangesOptions;
  /** The newest that a notice said there is. */
  #told: Told | undefined;
  /** The same, as it was when the last poll set out. */
  #sought: Told | undefined;
  /** A poll is to come for the sake of notices, at the end of their rest. */
  #isLookDue = false;
  /** From then on a kill need not wait for the rest between notices. */
  #urgentFrom = -Infinity;

  constructor(options: ToldChangesOptions) {
    this.#options = options;
  }

  /** What the next poll should bring at least, as far as notices know. */
  get wanted(): Version | undefined {
    return this.#missing(this.#told);
  }

  /** Unless what is said is known, looks at once where a kill may be told that must not wait, and else after the rest. */
  notice({ version, isUrgent = false }: ChangeNotice): void {
    const { known, look, lookAfterRest, clock } = this.#options;
    if (isAtLeast(known(), version)) return;
    const now = clock.now();
    if (version !== undefined && version.epoch === known()?.epoch)
      this.#told = lookFor(version, this.#told, now);
    if (!isUrgent || now < this.#urgentFrom) {
      this.#isLookDue = true;
      lookAfterRest();
      return;
    }
    this.#urgentFrom = now + URGENT_REST_MS;
    look();
  }

  restEnds(): void {
    this.#isLookDue = false;
    this.#options.look();
  }

  pollBegins(): void {
    this.#sought = this.#told;
  }

  /** To be called once the kill set that the last poll brought is known. */
  pollAnswered(): void {
    // Whoever answered was behind whoever told: a replica, or another upstream.
    if (this.#missing(this.#sought) !== undefined) this.#options.lookLater();
  }

  /** In a storm of notices, each of something that is not to be seen yet, their rest is kept. */
  lookAgain(): void {
    if (!this.#isLookDue && this.wanted !== undefined) this.#options.look();
  }

  /** What a notice said there is, of the epoch that is known, and has not been seen yet. */
  #missing(told: Told | undefined): Version | undefined {
    const known = this.#options.known();
    if (told === undefined || told.until <= this.#options.clock.now()) return undefined;
    const isSeen = told.version.epoch !== known?.epoch || isAtLeast(known, told.version);
    return isSeen ? undefined : told.version;
  }
}

/**
 * What is looked for once a version is told of. If that was told before it is asked for once more: an upstream names it
 * with each heartbeat. What is told of later and is older may be true, where the newer one is somebody's invention.
 */
function lookFor(version: Version, told: Told | undefined, now: number): Told {
  const isAgain = told !== undefined && isSameVersion(told.version, version);
  const until = now + (isAgain ? BEHIND_PAUSE_MS : BEHIND_MAX_MS);
  if (told === undefined || told.until <= now) return { version, until };
  return {
    version: isAtLeast(told.version, version) ? told.version : version,
    until: Math.max(told.until, until),
  };
}
