import type { Remembered } from "../../src/evaluation/remembered.ts";
import type { FlagState, Overrides } from "../../src/evaluation/state.ts";
import type { SnapshotContent } from "../../src/kills/snapshot/snapshot-content.ts";
import { flagValue, overrideOf, stateOf } from "./flag-builders.ts";

export interface SnapshotSize {
  readonly flags?: number;
  readonly entities?: number;
  readonly overridesEach?: number;
}

/** What a daemon may have known at a revision: the same for the same revision and size, and another for others. */
export function snapshotOf(revision: number, size: SnapshotSize = {}): SnapshotContent {
  const { flags = 20, entities = 10, overridesEach = 3 } = size;
  const version = { epoch: "epoch-1", revision };
  const common = { version, readAtWallMs: 1_000_000 + revision, isOutdated: false, isWithdrawn: false };
  return {
    store: "",
    kills: {
      flagIds: [`killed/${revision}`],
      overrides: [{ flagId: "digest/1", entityId: `killed-${revision}` }],
      version,
      readAtWallMs: 1_000_000 + revision,
      corrections: [],
    },
    flags: Array.from({ length: flags }, (_, i): Remembered<FlagState> => {
      const id = `digest/${i + 1}`;
      return { ...common, id, value: stateOf(id, { value: flagValue(`of ${revision}`) }) };
    }),
    entities: Array.from({ length: entities }, (_, i): Remembered<Overrides> => {
      const id = `user-${i}`;
      return { ...common, id, value: overridesOf(id, revision, overridesEach) };
    }),
  };
}

function overridesOf(entityId: string, revision: number, count: number): Overrides | undefined {
  if (count === 0) return undefined;
  const ids = Array.from({ length: count }, (_, i) => `digest/${i + 1}`);
  const value = flagValue(`${entityId} at ${revision}`);
  return new Map(ids.map((flagId) => [flagId, overrideOf(flagId, entityId, { value })]));
}
