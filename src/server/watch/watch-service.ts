import type { ServiceImpl } from "@connectrpc/connect";
import type { WatchService } from "../../gen/pbflagd/v1/watch_pb.ts";
import type { Clock } from "../../system/clock.ts";
import { fromRequest } from "../state-service.ts";
import type { Followers } from "./followers.ts";
import { HEARTBEAT_MS, type Told, type WatchEvents } from "./watch-events.ts";

export interface WatchServiceOptions {
  readonly events: WatchEvents;
  readonly followers: Followers;
  readonly clock: Pick<Clock, "sleep">;
  /** Aborts when the daemon begins to drain. */
  readonly stopping: AbortSignal;
}

/** Tells followers what changes. Each is told as it takes it: what it has not been told yet becomes one event. */
export function createWatchService(options: WatchServiceOptions): ServiceImpl<typeof WatchService> {
  const { events, followers, clock, stopping } = options;

  return {
    async *watch({ since, omitKills }, { signal }) {
      const known = fromRequest(since);
      const bell = new Bell();
      const ring = () => bell.ring();
      const leave = followers.join(ring);
      signal.addEventListener("abort", ring, { once: true });
      let isBeatDue = false;
      // Each keeps a time of its own, so that a thousand do not have to be told at once that there is nothing to tell.
      const due = () => {
        isBeatDue = true;
        bell.ring();
      };
      const beat = () => void clock.sleep(HEARTBEAT_MS, signal).then(due, () => {});
      try {
        let news = events.first(known, omitKills);
        let told: Told | undefined = news?.told;
        const { message } = news ?? { message: events.heartbeat() };
        message.heartbeatIntervalMs = BigInt(HEARTBEAT_MS);
        beat();
        yield message;
        while (!signal.aborted) {
          news = told === undefined ? events.first(known, omitKills) : events.next(told, omitKills);
          if (news !== undefined) {
            ({ told } = news);
            yield news.message;
          } else if (isBeatDue) {
            isBeatDue = false;
            beat();
            yield events.heartbeat();
          } else await bell.heard();
        }
      } finally {
        signal.removeEventListener("abort", ring);
        leave();
      }
      // Who is told that all is well goes on elsewhere. A client that left, or whose time is up, is not.
      if (!stopping.aborted) throw signal.reason;
    },
  };
}

/** Wakes the one who waits for it; who comes after it rang does not wait. */
class Bell {
  #rung = false;
  #wake: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  async heard(): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#wake = undefined;
    this.#rung = false;
  }
}
