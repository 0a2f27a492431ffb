import type { Source } from "../../src/evaluation/precedence.ts";
import type { FlagDefinition } from "../../src/flags/definition.ts";
import { defineFlag, flagValue, overrideOf, stateOf } from "../../test/support/flag-builders.ts";
import type { MemoryStore } from "../../test/support/memory-store.ts";

/** What an evaluation can come to when everything is in memory. */
export interface Outcome {
  readonly source: Source;
  /** Of each flag it is measured with. */
  readonly value: string;
  /** Whether it is asked for entities, or for nobody in particular. */
  readonly hasEntity: boolean;
  /** Its rows are past their time to live, and a refresh is under way. */
  readonly isPastTtl: boolean;
  fill(store: MemoryStore, flagId: string): void;
}

/** As many flags of each outcome, and as many entities, are asked for in turn. */
export const FLAGS_PER_OUTCOME = 1_000;
const ENTITY_COUNT = 1_000;

const globally = { hasEntity: false, isPastTtl: false };
const ofEntities = { hasEntity: true, isPastTtl: false };

function enable(store: MemoryStore, flagId: string): void {
  store.set(stateOf(flagId));
}

/** By what the table calls them. */
export const OUTCOMES: ReadonlyMap<string, Outcome> = new Map<string, Outcome>([
  [
    "killed",
    {
      ...ofEntities,
      source: "killed",
      value: "daily",
      fill: (store, flagId) => store.set(stateOf(flagId, { mode: "killed" })),
    },
  ],
  [
    "override",
    {
      ...ofEntities,
      source: "override",
      value: "never",
      fill(store, flagId) {
        enable(store, flagId);
        store.setOverride(overrideOf(flagId, OVERRIDDEN_ENTITY));
      },
    },
  ],
  ["global", { ...globally, source: "global", value: "weekly", fill: enable }],
  ["global, for an entity", { ...ofEntities, source: "global", value: "weekly", fill: enable }],
  ["default", { ...globally, source: "default", value: "daily", fill: () => {} }],
  ["stale", { ...globally, isPastTtl: true, source: "stale", value: "weekly", fill: enable }],
]);

/** The only one with overrides: of every flag whose outcome that is. */
export const OVERRIDDEN_ENTITY = "entity-with-overrides";

/** Flag ids of an outcome: features of fifty flags. */
export function flagIdsOf(name: string): readonly string[] {
  const feature = name.replaceAll(/[^a-z]+/g, "-");
  return Array.from(
    { length: FLAGS_PER_OUTCOME },
    (_, i) => `${feature}-${Math.floor(i / 50)}/${(i % 50) + 1}`,
  );
}

/** Who is asked for, in turn. */
export function entityIdsOf({ source, hasEntity }: Outcome): readonly string[] {
  if (!hasEntity) return [""];
  if (source === "override") return [OVERRIDDEN_ENTITY];
  return Array.from({ length: ENTITY_COUNT }, (_, i) => `user-${i}`);
}

export function defineAll(): readonly FlagDefinition[] {
  return [...OUTCOMES.keys()].flatMap((name) =>
    flagIdsOf(name).map((id) => defineFlag(id, { defaultValue: flagValue("daily") })),
  );
}
