import type { FetchedSet } from "../flags/followed-set.ts";
import { setBytesMax } from "../flags/load-descriptors.ts";
import { StateService } from "../gen/pbflagd/v1/state_pb.ts";
import { FlagEvaluatorService } from "../gen/pbflags/v1/evaluator_pb.ts";
import type { Clock } from "../system/clock.ts";
import type { Reached, UpstreamPool } from "../upstream/pool/upstream-pool.ts";
import { withDeadline } from "../upstream/transport/deadline.ts";
import { toUpstreamError, UpstreamError } from "../upstream/upstream-error.ts";

export interface FetchDescriptorSetOptions {
  /** Of a set that need not be sent again; empty: none. */
  readonly knownHash: string;
  /** All tries included: 5 s unless set. A set may have mebibytes. */
  readonly timeoutMs?: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** With `consistent-hash`, one upstream is asked every time. */
const KEY = "descriptor_set";

/**
 * Asks the pool for its descriptor set. Rejects with an UpstreamError: `unavailable` where there is none yet,
 * `failed_precondition` where there never is one.
 */
export async function fetchDescriptorSet(
  pool: Pick<UpstreamPool, "call">,
  { knownHash, timeoutMs = 5_000, clock, signal }: FetchDescriptorSetOptions,
): Promise<FetchedSet> {
  const said = await withDeadline({ timeoutMs, clock, outer: signal }, (deadline) =>
    pool.call({
      operation: "descriptor_set",
      deadline,
      key: KEY,
      run: (upstream) => ask(upstream, knownHash),
    }),
  ).catch((error: unknown) => {
    throw toUpstreamError(error, "the upstream");
  });
  if ("refusal" in said) throw said.refusal;
  return said.hash === knownHash ? { hash: said.hash, bytes: undefined } : said;
}

/**
 * That an upstream has no descriptor set is an answer: it must not count against an upstream that may be well
 * otherwise, and open its breaker for those who ask it for state.
 */
type Said = { readonly hash: string; readonly bytes: Uint8Array } | { readonly refusal: UpstreamError };

async function ask(upstream: Reached, knownHash: string): Promise<Said> {
  if (upstream.kind === "pbflags") {
    // Asked although nothing depends on it, because whatever was answered counts for the upstream.
    await upstream.call(FlagEvaluatorService.method.health, {});
    return { refusal: hasNone(upstream, "it is a plain pbflags evaluator") };
  }
  try {
    return await readParts(upstream, knownHash);
  } catch (error) {
    if (!(error instanceof UpstreamError)) throw error;
    if (error.code === "unimplemented") return { refusal: hasNone(upstream, "it does not know this RPC") };
    if (error.code === "unavailable" && error.answered) return { refusal: error };
    throw error;
  }
}

/** One that changes while it is read is read anew. */
async function readParts(upstream: Reached, knownHash: string): Promise<Said> {
  let parts: Uint8Array[] = [];
  let length = 0;
  let hashBefore: string | undefined;
  for (;;) {
    const { hash, descriptorSet, totalBytes } = await upstream.call(StateService.method.getDescriptorSet, {
      knownHash,
      offset: BigInt(length),
    });
    if (totalBytes > BigInt(setBytesMax)) {
      const must = `a descriptor set must have at most ${setBytesMax} bytes, got ${totalBytes}`;
      throw new UpstreamError("answer", `Cannot take descriptors from ${upstream.name}: ${must}`);
    }
    if (hashBefore !== undefined && hash !== hashBefore) {
      [parts, length, hashBefore] = [[], 0, undefined];
      continue;
    }
    hashBefore = hash;
    parts.push(descriptorSet);
    length += descriptorSet.length;
    if (hash === knownHash || descriptorSet.length === 0 || length >= Number(totalBytes)) {
      return { hash, bytes: parts.length === 1 ? descriptorSet : Buffer.concat(parts) };
    }
  }
}

function hasNone({ name }: Reached, why: string): UpstreamError {
  return new UpstreamError(
    "failed_precondition",
    `Cannot take descriptors from ${name}: ${why}, so descriptors must be set`,
  );
}
