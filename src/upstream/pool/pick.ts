import type { Strategy } from "../upstream-settings.ts";
import { weightedHashRank } from "./rendezvous.ts";

/** What a strategy may know of an upstream that could take a call. */
export interface Candidate {
  readonly name: string;
  readonly priority: number;
  /** Above 0. */
  readonly weight: number;
  readonly inFlight: number;
  /** Moving average; undefined before the first call. */
  readonly latencyMs: number | undefined;
}

/** What a choice depends on beside the candidates. */
export interface Occasion {
  /** Calls picked for so far. */
  readonly turn: number;
  /** 0 to 1. */
  readonly chance: number;
  /** What `consistent-hash` goes by. Undefined: any upstream will do. */
  readonly key: string | undefined;
}

type Choose = <C extends Candidate>(candidates: readonly C[], occasion: Occasion) => C | undefined;

/** Chooses one of the candidates; undefined if there is none. */
export function pick<C extends Candidate>(
  strategy: Strategy,
  candidates: readonly C[],
  occasion: Occasion,
): C | undefined {
  return STRATEGIES[strategy](candidates, occasion);
}

const inTurn: Choose = (candidates, { turn }) => candidates[turn % candidates.length];

const STRATEGIES: Readonly<Record<Strategy, Choose>> = {
  "round-robin": inTurn,
  random: (candidates, { chance }) => candidates[indexAt(chance, candidates.length)],
  "least-connections": (candidates, occasion) =>
    inTurn(
      lowest(candidates, ({ inFlight }) => inFlight),
      occasion,
    ),
  "least-latency": (candidates, occasion) =>
    // One that nobody has asked yet might be the fastest.
    inTurn(
      lowest(candidates, ({ latencyMs }) => latencyMs ?? -1),
      occasion,
    ),
  "weighted-random": (candidates, { chance }) => {
    const total = candidates.reduce((sum, { weight }) => sum + weight, 0);
    let left = chance * total;
    return candidates.find(({ weight }) => (left -= weight) < 0) ?? candidates.at(-1);
  },
  "consistent-hash": (candidates, occasion) => {
    const { key } = occasion;
    if (key === undefined) return inTurn(candidates, occasion);
    return lowest(candidates, ({ name, weight }) => weightedHashRank(key, name, weight))[0];
  },
  priority: (candidates, occasion) =>
    inTurn(
      lowest(candidates, ({ priority }) => -priority),
      occasion,
    ),
};

/** All candidates for which `rank` is lowest, in their order. */
function lowest<C>(candidates: readonly C[], rank: (candidate: C) => number): readonly C[] {
  const ranks = candidates.map(rank);
  const best = Math.min(...ranks);
  return candidates.filter((_, i) => ranks[i] === best);
}

function indexAt(chance: number, length: number): number {
  return Math.min(length - 1, Math.floor(chance * length));
}
