import type { FlagDefinition, FlagTable } from "../flags/definition.ts";
import type { Latest } from "../system/latest.ts";
import { canExist } from "./ids.ts";
import { isKilled, type KillSet } from "./kill-set.ts";
import { decideForAll, type Evaluation } from "./precedence.ts";
import type { FlagState, Found } from "./state.ts";

/** A flag that was asked for, as a flag table has it, and killed or not. */
export class AskedFlag {
  readonly id: string;
  readonly definition: FlagDefinition | undefined;
  readonly killed: boolean;
  /** Whether an override may apply. */
  readonly varies: boolean;
  /** What is answered whatever its state: it is killed, or cannot exist. */
  readonly fixed: Evaluation | undefined;
  /** Of the kill set by which it is killed or not. */
  killsRevision: number;
  #row: FlagState | undefined;
  #kind: Found<FlagState>["kind"] | undefined;
  #forAll: Evaluation | undefined;
  #flagsRevision = -1;
  #until = -Infinity;

  constructor({ id, definition, killed, killsRevision }: FoundFlag) {
    this.id = id;
    this.definition = definition;
    this.killed = killed;
    this.killsRevision = killsRevision;
    this.varies = !killed && definition !== undefined && definition.layer !== "";
    const hasState = !killed && (definition !== undefined || canExist(id));
    if (!hasState) this.fixed = decideForAll({ definition, killed, state: { kind: "unavailable" } });
  }

  /** What everybody without an override is answered; undefined where that is to be decided anew. */
  forAll(flagsRevision: number, now: number): Evaluation | undefined {
    return now < this.decidedUntil(flagsRevision) ? (this.fixed ?? this.#forAll) : undefined;
  }

  /** Until when that holds if the revision of what is remembered of flags stays. -Infinity: it is to be decided anew. */
  decidedUntil(flagsRevision: number): number {
    if (this.fixed !== undefined) return Infinity;
    return flagsRevision === this.#flagsRevision ? this.#until : -Infinity;
  }

  /** Decides that anew, from a state that is fresh until then. The same row, as fresh as the last time, need not be looked into. */
  decideForAll(state: Found<FlagState>, flagsRevision: number, until: number): Evaluation {
    this.#flagsRevision = flagsRevision;
    this.#until = until;
    const row = state.kind === "unavailable" ? undefined : state.value;
    if (this.#forAll !== undefined && row === this.#row && state.kind === this.#kind) return this.#forAll;
    this.#row = row;
    this.#kind = state.kind;
    return (this.#forAll = decideForAll({ definition: this.definition, killed: false, state }));
  }
}

type FoundFlag = Pick<AskedFlag, "id" | "definition" | "killed" | "killsRevision">;

export interface AskedFlagsOptions {
  readonly flags: Latest<FlagTable>;
  readonly killSet: Latest<KillSet | undefined>;
}

/** The flags that are asked for. Those that are defined are found once for all who ask, until the table is replaced. */
export class AskedFlags {
  readonly #flags: Latest<FlagTable>;
  readonly #killSet: Latest<KillSet | undefined>;
  #byName = new Map<string, AskedFlag>();
  #tableRevision = -1;

  constructor({ flags, killSet }: AskedFlagsOptions) {
    this.#flags = flags;
    this.#killSet = killSet;
  }

  /** By its id or its alias. */
  find(name: string): AskedFlag {
    if (this.#tableRevision !== this.#flags.revision) {
      this.#tableRevision = this.#flags.revision;
      this.#byName = new Map();
    }
    const known = this.#byName.get(name);
    return known?.killsRevision === this.#killSet.revision ? known : this.#findAnew(name, known);
  }

  /** A new kill set mostly changes nothing for a flag, and then what was decided of it holds. */
  #findAnew(name: string, known: AskedFlag | undefined): AskedFlag {
    const definition = known?.definition ?? this.#flags.value.find(name);
    const id = definition?.id ?? name;
    const killed = isKilled(this.#killSet.value, id);
    const { revision: killsRevision } = this.#killSet;
    if (known?.killed === killed) {
      known.killsRevision = killsRevision;
      return known;
    }
    const asked = new AskedFlag({ id, definition, killed, killsRevision });
    // Names that anybody could have made up are not kept.
    if (definition !== undefined) this.#byName.set(name, asked);
    return asked;
  }
}
