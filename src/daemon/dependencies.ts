import { access, constants } from "node:fs/promises";
import type { Config } from "../config/settings.ts";
import type { Dependency, JudgedDependency } from "../health/dependency-health.ts";
import type { ChangeFeed } from "../kills/change-feed.ts";
import type { SnapshotWriter } from "../kills/snapshot/snapshot-writer.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import type { Clock } from "../system/clock.ts";
import { createFolder } from "../system/create-folder.ts";
import { formatTimestamp } from "../system/timestamp.ts";
import type { UpstreamPool } from "../upstream/pool/upstream-pool.ts";

/** A store that answers, but fails some of its calls, is not well: a missing privilege, for instance. */
export function withoutTrouble(
  { name, check }: Dependency,
  troubles: ReadonlyMap<string, string>,
): Dependency {
  return {
    name,
    async check(signal) {
      const message = await check(signal);
      const [trouble] = troubles.values();
      if (trouble !== undefined) throw new Error(trouble);
      return message;
    },
  };
}

export interface StateParts {
  readonly namespace: Pick<Namespace, "killSet" | "health">;
  /** Undefined in root mode. */
  readonly pool: Pick<UpstreamPool, "upstreams"> | undefined;
  readonly clock: Clock;
}

/** Since when what is in force has not been heard anew. */
export function stateHealth({ namespace: { killSet, health }, pool, clock }: StateParts): JudgedDependency {
  return {
    name: "state",
    judge() {
      const readAt = killSet.value?.readAt;
      if (readAt === undefined) throw new Error("nothing is known yet");
      const heard = formatTimestamp(clock.wallNow() - (clock.now() - readAt));
      if (health.status === "serving" && !isAwayBehind(pool)) return `as the store had it at ${heard}`;
      throw new Error(`the store has not been heard since ${heard}: answers come from memory`);
    },
  };
}

/** Upstreams answer, and all that do say that their own store does not: they tell what they remember. */
function isAwayBehind(pool: StateParts["pool"]): boolean {
  const usable = pool?.upstreams.filter(({ state }) => state === "up") ?? [];
  return usable.length > 0 && usable.every(({ status }) => status === "degraded");
}

/** Whether changes come by push. */
export function feedHealth(feed: Pick<ChangeFeed, "state"> | undefined): readonly JudgedDependency[] {
  if (feed === undefined) return [];
  return [
    {
      name: "feed",
      judge() {
        const { state } = feed;
        if ("reason" in state) throw new Error(`changes are found by polling: ${state.reason}`);
        return state.kind === "connected" ? "changes are told at once" : "connecting";
      },
    },
  ];
}

/** Where something is kept for a restart. Another daemon's folder is as bad as one that cannot be written to. */
export function stateFolder(
  { stateDir }: Pick<Config, "stateDir">,
  snapshot: Pick<SnapshotWriter, "problem"> | undefined,
): readonly Dependency[] {
  if (stateDir === undefined) return [];
  return [
    {
      name: "state_dir",
      async check() {
        await createFolder(stateDir, 0o700);
        await access(stateDir, constants.W_OK);
        if (snapshot?.problem !== undefined) throw new Error(snapshot.problem);
        return "writable";
      },
    },
  ];
}
