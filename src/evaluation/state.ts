import type { FlagType } from "../flags/definition.ts";
import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";

/** What an operator set. */
export type Mode = "enabled" | "default" | "killed";

/** What the store holds for one flag. */
export interface FlagState {
  readonly flagId: string;
  readonly mode: Mode;
  /** Undefined if none is stored, or if what is stored cannot be read (then `invalid` says why). */
  readonly value: FlagValue | undefined;
  /** The flag is no longer defined; its row is kept. */
  readonly archived: boolean;
  /** The type the store believes the flag has. Undefined where it does not say (plain upstreams). */
  readonly type: FlagType | undefined;
  /** Why the stored value is unreadable. */
  readonly invalid?: string;
}

/** What the store holds for one flag and one entity. */
export interface Override {
  readonly flagId: string;
  readonly entityId: string;
  readonly mode: Mode;
  readonly value: FlagValue | undefined;
  readonly invalid?: string;
}

/** All overrides of one entity, by flag id. */
export type Overrides = ReadonlyMap<string, Override>;

/** Names an override in state KILLED. */
export interface KilledOverride {
  readonly flagId: string;
  readonly entityId: string;
}

/** The answer to a look-up that may have had to leave the process. It never fails: failure is a kind. */
export type Found<T> =
  /** Not older than its time to live. A value of undefined: the store holds no such row. */
  | { readonly kind: "fresh"; readonly value: T | undefined }
  /** Past its time to live; a refresh is running or due. */
  | { readonly kind: "stale"; readonly value: T | undefined }
  /** Past its time to live; the last attempt to refresh it failed, or the breaker is open. */
  | { readonly kind: "cached"; readonly value: T | undefined }
  /** The store did not answer and never had. */
  | { readonly kind: "unavailable" };
