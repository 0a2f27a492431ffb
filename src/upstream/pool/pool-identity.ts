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
const LEFT_MAX = 100;

/**
 * Who belongs together: all upstreams of a pool are of one kind and read one database. The first to say something
 * decides. An upstream of the pool whose database changes, because it was restored or replaced, takes the pool along.
 */
export class PoolIdentity {
  #kind: UpstreamKind | undefined;
  #epoch: string | undefined;
  /** Epochs that the pool has been of, the latest last. */
  readonly #left = new Set<string>();
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
    // Nobody else is left of what the pool was: it has been replaced by what is there now.
    if (![...this.#claims.values()].some((claim) => claim.kind === this.#kind)) {
      this.#kind = kind;
      this.#epoch = undefined;
    }
    if (kind !== this.#kind) return this.reasonAgainst(name);
    // One answer without a version is rather a slip than another database, as long as others know theirs.
    const isAlone = ![...this.#claims].some(
      ([other, claim]) => other !== name && claim.epoch === this.#epoch,
    );
    // Nor does who comes to know again what the pool has left: it may have begun anew with what another had not left yet.
    const isStepBack = epoch === NO_VERSIONS || (epoch !== undefined && this.#left.has(epoch));
    const mayLead = !isStepBack || isAlone;
    const wasMember = before?.kind === this.#kind && before.epoch === this.#epoch && mayLead;
    if (epoch !== undefined && (this.#epoch === undefined || wasMember)) this.#follow(epoch);
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

  #follow(epoch: string): void {
    if (epoch === this.#epoch) return;
    if (this.#epoch !== undefined) this.#left.add(this.#epoch);
    this.#left.delete(epoch);
    for (const oldest of this.#left) if (this.#left.size > LEFT_MAX) this.#left.delete(oldest);
    this.#epoch = epoch;
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
