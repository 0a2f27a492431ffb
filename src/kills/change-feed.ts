import type { Version } from "../evaluation/version.ts";
import type { Clock } from "../system/clock.ts";

/** How a feed stands with what it follows. Times are on the clock's monotonic scale, in milliseconds. */
export type FeedState =
  | { readonly kind: "connecting" }
  | { readonly kind: "connected"; readonly since: number }
  /** It finds its way back within seconds, as soon as there is one, and tells then what was missed. */
  | { readonly kind: "broken"; readonly reason: string; readonly retryAt: number }
  /** What it would follow tells nothing: it is looked at again now and then. */
  | { readonly kind: "lacking"; readonly reason: string; readonly retryAt: number };

/** Something changed, or may have. It says to look now, not what to believe. */
export interface ChangeNotice {
  /**
   * Which version there is to be seen: whoever knows that one has missed nothing. Undefined where the notice does not
   * say, or not in a way that can be read.
   */
  readonly version: Version | undefined;
  /** Kills are among what changed, as far as the notice says. */
  readonly isUrgent?: boolean;
}

/** Who is told. None of these may throw. */
export interface ChangeFeedOptions {
  /** Comes with every connection too, and may say again what it has said: whether that is news, the receiver knows. */
  readonly onNotice: (notice: ChangeNotice) => void;
  /** Told when the kind of state or the reason changes, and not of every try that fails for the same reason. */
  readonly onStateChange: (state: FeedState) => void;
  readonly clock: Clock;
  /** From 0 up to 1. */
  readonly random: () => number;
}

/**
 * Tells at once that state has changed, where the kill poll would notice in time. It applies nothing, may miss
 * anything while it is not connected, and finds its way back by itself. Disposing ends it.
 */
export interface ChangeFeed extends AsyncDisposable {
  readonly state: FeedState;
}
