import { setMaxListeners } from "node:events";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import {
  CheckUpstreamsResponseSchema,
  ListUpstreamsResponseSchema,
  ResetUpstreamResponseSchema,
  UpstreamSchema,
  type UpstreamService,
  BreakerState as WireBreaker,
  UpstreamKind as WireKind,
  UpstreamState as WireState,
} from "../gen/pbflagd/v1/upstreams_pb.ts";
import type { UpstreamPool, UpstreamReport } from "../upstream/pool/upstream-pool.ts";
import { toWireStatus } from "./to-wire.ts";

/** What the service needs of a pool. */
export type ListedPool = Pick<UpstreamPool, "upstreams" | "reset" | "checkNow">;

/** Shows the upstreams of a proxy and how they do. Undefined, as in root mode: there are none. */
export function createUpstreamService(pool: ListedPool | undefined): ServiceImpl<typeof UpstreamService> {
  const sweep = new SharedSweep(async (signal) => pool?.checkNow(signal));

  function all() {
    return (pool?.upstreams ?? []).map(toWireUpstream);
  }

  return {
    listUpstreams() {
      return create(ListUpstreamsResponseSchema, { upstreams: all() });
    },

    resetUpstream({ name }) {
      if (name === "") throw new ConnectError("Cannot ResetUpstream: name is empty", Code.InvalidArgument);
      if (pool?.reset(name) !== true) throw noSuchUpstream(name, pool?.upstreams ?? []);
      const upstream = all().find((each) => each.name === name);
      return create(ResetUpstreamResponseSchema, upstream === undefined ? {} : { upstream });
    },

    async checkUpstreams(_, { signal }) {
      await sweep.join(signal);
      if (signal.aborted) throw cutShort(signal.reason);
      return create(CheckUpstreamsResponseSchema, { upstreams: all() });
    },
  };
}

interface Sweep {
  readonly done: Promise<void>;
  readonly end: AbortController;
  waiting: number;
}

/** One sweep for all who ask while it is under way. It ends early when nobody waits for it any more. */
class SharedSweep {
  readonly #run: (signal: AbortSignal) => Promise<void>;
  #current: Sweep | undefined;

  constructor(run: (signal: AbortSignal) => Promise<void>) {
    this.#run = run;
  }

  /** Resolves when the sweep is done, or the caller has gone. */
  async join(caller: AbortSignal): Promise<void> {
    if (caller.aborted) return;
    const sweep = this.#current ?? this.#begin();
    sweep.waiting += 1;
    await Promise.race([sweep.done, aborted(caller)]);
    sweep.waiting -= 1;
    if (sweep.waiting > 0) return;
    sweep.end.abort();
    if (this.#current === sweep) this.#current = undefined;
  }

  #begin(): Sweep {
    const end = new AbortController();
    // Every check of the sweep listens to it; Node would take that for a leak.
    setMaxListeners(0, end.signal);
    this.#current = { done: this.#run(end.signal), end, waiting: 0 };
    return this.#current;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** Connect says itself whether a client left or its time was up; any other reason is that the daemon stops. */
function cutShort(reason: unknown): ConnectError {
  if (reason instanceof ConnectError) return reason;
  return new ConnectError("Cannot check the upstreams: the daemon is stopping", Code.Unavailable);
}

/** The message travels in a header, so it has room for some names only. */
const NAMED_MAX = 20;
const NAME_LENGTH_MAX = 100;

function noSuchUpstream(name: string, upstreams: readonly UpstreamReport[]): ConnectError {
  const shown = name.length > NAME_LENGTH_MAX ? `${name.slice(0, NAME_LENGTH_MAX)}…` : name;
  const names = [...new Set(upstreams.map((upstream) => upstream.name))];
  const more = names.length > NAMED_MAX ? ` and ${names.length - NAMED_MAX} more` : "";
  const known =
    names.length === 0
      ? "This daemon has none: it reads a database"
      : `There are: ${names.slice(0, NAMED_MAX).join(", ")}${more}`;
  return new ConnectError(`Cannot reset ${JSON.stringify(shown)}: no such upstream. ${known}`, Code.NotFound);
}

const WIRE_STATE: Readonly<Record<UpstreamReport["state"], WireState>> = {
  up: WireState.UP,
  down: WireState.DOWN,
  refused: WireState.REFUSED,
  draining: WireState.DRAINING,
};

const WIRE_KIND: Readonly<Record<NonNullable<UpstreamReport["kind"]>, WireKind>> = {
  pbflagd: WireKind.PBFLAGD,
  pbflags: WireKind.PBFLAGS,
};

const WIRE_BREAKER: Readonly<Record<UpstreamReport["breaker"], WireBreaker>> = {
  closed: WireBreaker.CLOSED,
  open: WireBreaker.OPEN,
  "half-open": WireBreaker.HALF_OPEN,
};

function toWireUpstream(upstream: UpstreamReport) {
  const { name, target, score, inFlight, priority, weight } = upstream;
  const { state, kind, breaker, latencyMs, status, version, lastError, checkedAt } = upstream;
  return create(UpstreamSchema, {
    name,
    target,
    score,
    inFlight,
    priority,
    weight,
    state: WIRE_STATE[state],
    breaker: WIRE_BREAKER[breaker],
    ...(kind === undefined ? {} : { kind: WIRE_KIND[kind] }),
    ...(latencyMs === undefined ? {} : { latencyMs }),
    ...(status === undefined ? {} : { status: toWireStatus[status] }),
    ...(version === undefined
      ? {}
      : { version: { epoch: version.epoch, revision: BigInt(version.revision) } }),
    ...(lastError === undefined
      ? {}
      : { lastError: lastError.message, lastErrorAt: timestampFromMs(lastError.at) }),
    ...(checkedAt === undefined ? {} : { checkedAt: timestampFromMs(checkedAt) }),
  });
}
