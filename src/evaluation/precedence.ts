import type { FlagDefinition, FlagType } from "../flags/definition.ts";
import { hasType } from "../flags/flag-value.ts";
import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";
import type { FlagState, Found, Override } from "./state.ts";

/** Where an answer came from, as `EvaluationSource` on the wire names it. */
export type Source = "default" | "global" | "override" | "killed" | "cached" | "archived" | "stale";

/** The answer for one flag and one entity. */
export interface Evaluation {
  /** Undefined for a flag that has no compiled default, or that nobody defined. */
  readonly value: FlagValue | undefined;
  readonly source: Source;
}

/** What is known about one flag for everybody when it is decided. */
export interface KnownForAll {
  /** Undefined for a flag that the descriptors do not define. */
  readonly definition: FlagDefinition | undefined;
  /** Whether the kill set holds the flag. */
  readonly killed: boolean;
  readonly state: Found<FlagState>;
}

/** What is known about it for one entity. */
export interface Known extends Omit<KnownForAll, "state"> {
  /** Undefined where nobody asked: without an entity there is none. */
  readonly override: Found<Override> | undefined;
  /** As `decideForAll` says. */
  readonly forAll: Evaluation;
}

/**
 * The precedence chain: kill set, override, global state, compiled default. The first that applies answers. What everybody
 * is answered who has no override is the same for all of them, and decided apart.
 *
 * Both decide from what was looked up before, and know no clock, cache or network.
 */
export function decide({ definition, killed, override, forAll }: Known): Evaluation {
  return (killed ? undefined : decideOverride(definition, override)) ?? forAll;
}

export function decideForAll({ definition, killed, state }: KnownForAll): Evaluation {
  if (killed) return { value: definition?.defaultValue, source: "killed" };
  return decideState(definition, state) ?? { value: definition?.defaultValue, source: "default" };
}

/** An override that is known always decides; one that is not leaves the decision to the global state. */
function decideOverride(
  definition: FlagDefinition | undefined,
  found: Found<Override> | undefined,
): Evaluation | undefined {
  if (definition === undefined || definition.layer === "") return undefined;
  if (found === undefined || found.kind === "unavailable" || found.value === undefined) return undefined;
  const { mode, value } = found.value;
  if (mode === "enabled" && fits(value, definition.type)) {
    return { value, source: sourceOf("override", found.kind) };
  }
  return { value: definition.defaultValue, source: "default" };
}

function decideState(
  definition: FlagDefinition | undefined,
  found: Found<FlagState>,
): Evaluation | undefined {
  if (found.kind === "unavailable" || found.value === undefined) return undefined;
  const { mode, value, archived, type } = found.value;
  if (mode === "killed") return { value: definition?.defaultValue, source: "killed" };
  if (!fits(value, definition?.type ?? type)) return undefined;
  if (archived) return { value, source: sourceOf("archived", found.kind) };
  if (mode === "enabled") return { value, source: sourceOf("global", found.kind) };
  return undefined;
}

/** A value of another type than the flag's counts as absent. */
function fits(value: FlagValue | undefined, type: FlagType | undefined): value is FlagValue {
  return value !== undefined && (type === undefined || hasType(value, type));
}

function sourceOf(source: Source, kind: "fresh" | "stale" | "cached"): Source {
  return kind === "fresh" ? source : kind;
}
