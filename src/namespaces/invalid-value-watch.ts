import { LRUCache } from "lru-cache";
import { whyInvalid } from "../evaluation/invalid-values.ts";
import type { FlagState, Override } from "../evaluation/state.ts";
import type { FlagType } from "../flags/definition.ts";

/** A stored value that is not served because it does not fit its flag. */
export interface InvalidValue {
  readonly flagId: string;
  /** Undefined: the flag's global value. */
  readonly entityId: string | undefined;
  readonly reason: string;
}

/** More than the flags of a large descriptor set and some overrides of each: what is forgotten is told again. */
const REMEMBERED_MAX = 50_000;

/** Tells of each invalid value once, and again only after it has changed. */
export class InvalidValueWatch {
  readonly #onInvalid: (invalid: InvalidValue) => void;
  /** Made when there is something to remember: it takes its memory at once. */
  #told: LRUCache<string, string> | undefined;

  constructor(onInvalid: (invalid: InvalidValue) => void) {
    this.#onInvalid = onInvalid;
  }

  check(row: FlagState | Override, type: FlagType | undefined): void {
    const reason = whyInvalid(row, type);
    if (reason === undefined && this.#told === undefined) return;
    const entityId = "entityId" in row ? row.entityId : undefined;
    // A newline occurs in neither id, so no two rows share a key.
    const key = `${row.flagId}\n${entityId ?? ""}`;
    if (reason === undefined) {
      this.#told?.delete(key);
      return;
    }
    this.#told ??= new LRUCache({ max: REMEMBERED_MAX });
    if (this.#told.get(key) === reason) return;
    this.#told.set(key, reason);
    this.#onInvalid({ flagId: row.flagId, entityId, reason });
  }
}
