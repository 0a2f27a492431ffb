import { EvaluatorStatus } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import type { FlagStore } from "../../src/store/flag-store.ts";
import { openUpstreamStore } from "../../src/store/upstream-store.ts";
import { systemClock } from "../../src/system/clock.ts";
import { openUpstreamPool } from "../../src/upstream/pool/pool.ts";
import type { UpstreamKind, UpstreamPool } from "../../src/upstream/pool/upstream-pool.ts";
import { openTransport } from "../../src/upstream/transport/open-transport.ts";
import { good } from "./bad-answers.ts";
import { poolSettings, upstreamSettings } from "./fake-upstream.ts";
import { openRawUpstream, type Protocol, type RawUpstream } from "./raw-upstream.ts";
import { silentPoolEvents } from "./silent-events.ts";

/** A store over a pool of one upstream, which says what it is told to. */
export interface AnswerRig extends AsyncDisposable {
  readonly upstream: RawUpstream;
  readonly pool: UpstreamPool;
  readonly store: FlagStore;
  /** Why calls to the upstream failed, as they are counted. */
  readonly failures: unknown[];
}

export async function openAnswerRig(protocol: Protocol, kind: UpstreamKind): Promise<AnswerRig> {
  const status = EvaluatorStatus.SERVING;
  const upstream = await openRawUpstream(protocol, (method) =>
    method === "Health" ? good("Health", { status }) : good("GetStatus", { status }),
  );
  const failures: unknown[] = [];
  const { retry, breaker } = upstreamSettings({ name: "a" });
  const pool = openUpstreamPool({
    settings: poolSettings(
      [
        {
          name: "a",
          url: upstream.url,
          kind,
          retry: { ...retry, maxRetries: 0 },
          // However much nonsense it says, it is asked again.
          breaker: { ...breaker, failuresMax: Number.MAX_SAFE_INTEGER },
        },
      ],
      {
        score: { initial: 1e6, min: -1, max: 1e6, success: 1, failure: -1 },
        healthCheck: { intervalMs: 3_600_000, timeoutMs: 5_000, jitter: 0 },
      },
    ),
    openTransport: (settings) => openTransport({ settings, clock: systemClock }),
    clock: systemClock,
    random: () => 0.5,
    events: {
      ...silentPoolEvents,
      onCall: (_name, _operation, _durationMs, error) => {
        if (error !== undefined) failures.push(error);
      },
    },
  });
  const store = openUpstreamStore({ pool, fetchTimeoutMs: 5_000, clock: systemClock });
  await pool.checkNow(AbortSignal.timeout(5_000));
  return {
    upstream,
    pool,
    store,
    failures,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}
