import type { Config } from "../config/settings.ts";
import type { ChangeFeed, ChangeFeedOptions } from "../kills/change-feed.ts";
import { openPostgresFeed } from "../kills/postgres-feed.ts";
import { openUpstreamFeed } from "../kills/upstream-feed.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { UpstreamPool } from "../upstream/pool/upstream-pool.ts";
import type { DaemonDeps } from "./deps.ts";

export interface FeedParts {
  readonly config: Pick<Config, "database" | "databaseListen">;
  readonly deps: Pick<DaemonDeps, "clock" | "random"> & { readonly logger: Pick<Logger, "info" | "warn"> };
  readonly namespace: Pick<Namespace, "changeNoticed" | "changesMissed" | "storeReturned">;
  /** Undefined in root mode. */
  readonly pool: Pick<UpstreamPool, "follow" | "canFollow"> | undefined;
  /** What the database's feed waits for before it connects. Unset: nothing. */
  readonly startsAfter?: (signal: AbortSignal) => Promise<void>;
}

/** What tells this daemon of changes at once: the database, or an upstream. The poll goes on beside it. */
export function openFeed({ config, deps, namespace, pool, startsAfter }: FeedParts): ChangeFeed | undefined {
  const { clock, random, logger } = deps;
  const options: ChangeFeedOptions = {
    onNotice: (notice) => namespace.changeNoticed(notice),
    onStateChange(state) {
      if (state.kind === "connected") {
        logger.info("feed_connected");
        namespace.storeReturned();
      }
      if (!("reason" in state)) return;
      logger.warn("feed_broken", { msg: "changes are found by polling", reason: state.reason });
      namespace.changesMissed();
    },
    clock,
    random,
  };
  const url = config.databaseListen ?? config.database;
  if (url !== undefined) return openPostgresFeed({ ...options, url, startsAfter });
  if (pool === undefined) return undefined;
  return openUpstreamFeed({ ...options, pool });
}

export interface UsableParts {
  readonly namespace: Pick<Namespace, "ready" | "storeReturned">;
  /** Undefined: none, or not yet. */
  readonly feed: Pick<ChangeFeed, "state"> | undefined;
}

/**
 * An upstream of the pool can be used again. A feed that finds its way back tells then what was missed: nobody else has
 * to look before, unless nothing is ready yet.
 */
export function takeUpUsable({ namespace, feed }: UsableParts): void {
  if (!namespace.ready || feed?.state.kind !== "broken") namespace.storeReturned();
}
