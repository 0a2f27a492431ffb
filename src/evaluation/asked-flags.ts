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
  /** Whether its state is looked up: not that of a flag that is killed, or that cannot exist. */
  readonly hasState: boolean;
  /** Of the kill set by which it is killed or not. */
  killsRevision: number;
  #row: FlagState | undefined;
  #kind: Found<FlagState>["kind"] = "unavailable";
  #forAll: Evaluation;
  #flagsRevision = -1;
  #until = -Infinity;

  constructor({ id, definition, killed, killsRevision }: FoundFlag) {
    this.id = id;
    this.definition = definition;
    this.killed = killed;
    this.killsRevision = killsRevision;
    this.varies = !killed && definition !== undefined && definition.layer !== "";
    this.hasState = !killed && (definition !== undefined || canExist(id));
    this.#forAll = decideForAll({ definition, killed, state: { kind: "unavailable" } });
  }

  /** What everybody without an override is answered, as it was decided last: at first without a state. */
  get forAll(): Evaluation {
    return this.#forAll;
  }

  /** Until when that holds if the revision of what is remembered of flags stays. -Infinity: it is to be decided anew. */
  decidedUntil(flagsRevision: number): number {
    if (!this.hasState) return Infinity;
    return flagsRevision === this.#flagsRevision ? this.#until : -Infinity;
  }

  /** Decides that from a state. The same row, as fresh as the last time, need not be looked into. */
  decideForAll(kind: Found<FlagState>["kind"], row: FlagState | undefined): Evaluation {
    if (row === this.#row && kind === this.#kind) return this.#forAll;
    this.#row = row;
    this.#kind = kind;
    this.#until = -Infinity;
    const state = kind === "unavailable" ? { kind } : { kind, value: row };
    this.#forAll = decideForAll({ definition: this.definition, killed: this.killed, state });
    return this.#forAll;
  }

  /** What was decided last holds until then if this revision stays. */
  keep(flagsRevision: number, until: number): void {
    this.#flagsRevision = flagsRevision;
    this.#until = until;
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
    // Names that anybody could have made up are not kept, nor is a text that may be part of a request.
    if (definition !== undefined) this.#byName.set(name === id ? id : definition.alias, asked);
    return asked;
  }
}
