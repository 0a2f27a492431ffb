import type { Version } from "../../evaluation/version.ts";
import type { UpstreamKind } from "./upstream-pool.ts";

/** What an upstream says it is. */
export interface Claim {
  readonly kind: UpstreamKind;
  readonly version: Version | undefined;
  /** Whether it would have told a version if it had any: who has not learnt anything yet has none to tell. */
  readonly isFinal: boolean;
}

/** The epoch of stores without versions. */
const NO_VERSIONS = "";

/**
 * Who belongs together: all upstreams of a pool are of one kind and read one database. The first to say something
 * decides. An upstream of the pool whose database changes, because it was restored or replaced, takes the pool along.
 */
export class PoolIdentity {
  #kind: UpstreamKind | undefined;
  #epoch: string | undefined;
  /** What each upstream last said. */
  readonly #claims = new Map<string, { readonly kind: UpstreamKind; readonly epoch: string | undefined }>();

  /** Undefined: nobody has said yet. */
  get kind(): UpstreamKind | undefined {
    return this.#kind;
  }

  /** Takes in what an upstream says. Returns why it does not belong, or undefined. */
  hear(name: string, { kind, version, isFinal }: Claim): string | undefined {
    const before = this.#claims.get(name);
    const unsaid = isFinal ? NO_VERSIONS : before?.kind === kind ? before.epoch : undefined;
    const epoch = version?.epoch ?? unsaid;
    this.#claims.set(name, { kind, epoch });
    this.#kind ??= kind;
    if (kind !== this.#kind) return this.reasonAgainst(name);
    const wasMember = before?.kind === this.#kind && before.epoch === this.#epoch;
    if (epoch !== undefined && (this.#epoch === undefined || wasMember)) this.#epoch = epoch;
    return this.reasonAgainst(name);
  }

  /** Why an upstream does not belong, as far as it has said anything; undefined if it may be asked. */
  reasonAgainst(name: string): string | undefined {
    const claim = this.#claims.get(name);
    if (claim === undefined) return undefined;
    if (this.#kind !== undefined && claim.kind !== this.#kind) {
      return `it is ${DESCRIPTIONS[claim.kind]} and the others are ${DESCRIPTIONS[this.#kind]}: a pool must be of one kind`;
    }
    if (claim.epoch !== undefined && this.#epoch !== undefined && claim.epoch !== this.#epoch) {
      return `it reads another database than the pool: epoch ${shorten(claim.epoch)}, expected ${shorten(this.#epoch)}`;
    }
    return undefined;
  }

  /** Upstreams have left. If nobody is left of those that belonged, whoever speaks next decides anew. */
  retain(names: ReadonlySet<string>): void {
    for (const name of this.#claims.keys()) if (!names.has(name)) this.#claims.delete(name);
    const left = [...this.#claims.values()];
    if (left.some(({ kind, epoch }) => kind === this.#kind && epoch === this.#epoch)) return;
    this.#kind = undefined;
    this.#epoch = undefined;
  }
}

const DESCRIPTIONS: Readonly<Record<UpstreamKind, string>> = {
  pbflagd: "pbflagd",
  pbflags: "a plain pbflags evaluator",
};

/** Epochs come from another process, and go into logs. */
function shorten(epoch: string): string {
  if (epoch === NO_VERSIONS) return "none";
  return epoch.length > 80 ? `${epoch.slice(0, 80)}…` : epoch;
}
