import type { Clock } from "../../system/clock.ts";
import type { ConnectionSettings } from "../upstream-settings.ts";
import type { Headers } from "./auth-headers.ts";
import type { Target } from "./parse-target.ts";
import type { Dialer } from "./socket/dialer.ts";
import type { UpstreamWords } from "./upstream-words.ts";

/** What a transport is made of, whichever protocol it speaks. */
export interface Wire {
  readonly target: Target;
  /** Closed with the transport. */
  readonly dialer: Dialer;
  readonly connection: ConnectionSettings;
  /** Sent with each call: they tell who is asking. */
  readonly identity: Headers;
  readonly words: UpstreamWords;
  /** Asked before each call for more of them. */
  readonly headers: (() => Headers) | undefined;
  readonly clock: Pick<Clock, "now" | "sleep">;
}
