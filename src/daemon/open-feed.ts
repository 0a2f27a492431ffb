import type { Config } from "../config/settings.ts";
import type { ChangeFeed, ChangeFeedOptions } from "../kills/change-feed.ts";
import { openPostgresFeed } from "../kills/postgres-feed.ts";
import { openUpstreamFeed } from "../kills/upstream-feed.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import type { Clock } from "../system/clock.ts";
import type { UpstreamPool } from "../upstream/pool/upstream-pool.ts";
import type { DaemonDeps } from "./deps.ts";

export interface FeedParts {
  readonly config: Config;
  readonly deps: Pick<DaemonDeps, "clock" | "random" | "logger">;
  readonly namespace: Pick<Namespace, "changeNoticed" | "changesMissed" | "storeReturned">;
  /** Undefined in root mode. */
  readonly pool: UpstreamPool | undefined;
}

/** What tells this daemon of changes at once: the database, or an upstream. The poll goes on beside it. */
export function openFeed({ config, deps, namespace, pool }: FeedParts): ChangeFeed | undefined {
  const { clock, random, logger } = deps;
  const options: ChangeFeedOptions = {
    onNotice: (notice) => namespace.changeNoticed(notice),
    onStateChange(state) {
      if (state.kind === "connected") {
        logger.info("feed_connected");
        namespace.storeReturned();
      }
      if (state.kind !== "broken") return;
      logger.warn("feed_broken", { msg: "changes are found by polling", reason: state.reason });
      namespace.changesMissed();
    },
    clock,
    random,
  };
  const url = config.databaseListen ?? config.database;
  if (url !== undefined) return openPostgresFeed({ ...options, url });
  if (pool === undefined) return undefined;
  return openUpstreamFeed({ ...options, pool });
}

const SOON_MS = 5_000;

/** Whether the feed will try again soon by itself, and then tell what was missed: nobody else has to look before. */
export function isComingBack(
  feed: Pick<ChangeFeed, "state"> | undefined,
  clock: Pick<Clock, "now">,
): boolean {
  return feed?.state.kind === "broken" && feed.state.retryAt - clock.now() <= SOON_MS;
}
