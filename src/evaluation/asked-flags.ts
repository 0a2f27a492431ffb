import type { FlagDefinition, FlagTable } from "../flags/definition.ts";
import type { Latest } from "../system/latest.ts";
import { canExist } from "./ids.ts";
import { isKilled, type KillSet } from "./kill-set.ts";
import { decideForAll, type Evaluation } from "./precedence.ts";

/** A flag that was asked for, as a flag table and a kill set have it. */
export class AskedFlag {
  readonly id: string;
  readonly definition: FlagDefinition | undefined;
  /** Whether an override may apply. */
  readonly varies: boolean;
  /** What is answered whatever its state: it is killed, or cannot exist. */
  readonly fixed: Evaluation | undefined;
  #forAll: Evaluation | undefined;
  #flagsRevision = -1;
  #until = -Infinity;

  constructor(id: string, definition: FlagDefinition | undefined, killed: boolean) {
    this.id = id;
    this.definition = definition;
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

  remember(forAll: Evaluation, flagsRevision: number, until: number): void {
    this.#forAll = forAll;
    this.#flagsRevision = flagsRevision;
    this.#until = until;
  }
}

export interface AskedFlagsOptions {
  readonly flags: Latest<FlagTable>;
  readonly killSet: Latest<KillSet | undefined>;
}

/** The flags that are asked for. Those that are defined are found once for all who ask, until table or kill set is replaced. */
export class AskedFlags {
  readonly #flags: Latest<FlagTable>;
  readonly #killSet: Latest<KillSet | undefined>;
  #byName = new Map<string, AskedFlag>();
  #tableRevision = -1;
  #killsRevision = -1;

  constructor({ flags, killSet }: AskedFlagsOptions) {
    this.#flags = flags;
    this.#killSet = killSet;
  }

  /** By its id or its alias. */
  find(name: string): AskedFlag {
    const { revision: tableRevision } = this.#flags;
    const { revision: killsRevision } = this.#killSet;
    if (tableRevision !== this.#tableRevision || killsRevision !== this.#killsRevision) {
      this.#tableRevision = tableRevision;
      this.#killsRevision = killsRevision;
      this.#byName = new Map();
    }
    return this.#byName.get(name) ?? this.#findAnew(name);
  }

  #findAnew(name: string): AskedFlag {
    const definition = this.#flags.value.find(name);
    const id = definition?.id ?? name;
    const asked = new AskedFlag(id, definition, isKilled(this.#killSet.value, id));
    // Names that anybody could have made up are not kept.
    if (definition !== undefined) this.#byName.set(name, asked);
    return asked;
  }
}
