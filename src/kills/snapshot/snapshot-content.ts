import { createHash } from "node:crypto";
import type { RememberedKills } from "../../evaluation/kill-set.ts";
import type { Remembered } from "../../evaluation/remembered.ts";
import type { FlagState, Overrides } from "../../evaluation/state.ts";

/** What a daemon knew, kept for its next start. */
export interface SnapshotContent {
  /** Which store it was learnt from, as `identifyStore` names it. Counts where the store has no versions. */
  readonly store: string;
  readonly kills: RememberedKills;
  readonly flags: readonly Remembered<FlagState>[];
  /** What is most worth keeping first. */
  readonly entities: readonly Remembered<Overrides>[];
}

/**
 * Whether a snapshot may be restored by a daemon whose store is called `store`. Versions tell by themselves, as soon as
 * the store is heard, whether they are of the same database; without any, the names must be the same.
 */
export function isOfStore({ store, kills }: SnapshotContent, name: string): boolean {
  return kills.version !== undefined || store === name;
}

/**
 * Names a store that has no versions: by the URLs of the upstreams, and by the descriptors, since what is remembered is
 * of their flags. Neither can be read from the name.
 */
export function identifyStore(urls: readonly string[], descriptorHash: string): string {
  return createHash("sha256")
    .update(JSON.stringify([urls.toSorted(), descriptorHash]))
    .digest("hex");
}
