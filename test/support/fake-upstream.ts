import { setMaxListeners } from "node:events";
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { Version } from "../../src/evaluation/version.ts";
import { GetStatusResponseSchema, StateService } from "../../src/gen/pbflagd/v1/state_pb.ts";
import { EvaluatorStatus, HealthResponseSchema } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import type { Deadline } from "../../src/upstream/transport/deadline.ts";
import type { StreamMethod, Transport, UnaryMethod } from "../../src/upstream/transport/transport.ts";
import { UpstreamError } from "../../src/upstream/upstream-error.ts";
import type { PoolSettings, UpstreamSettings } from "../../src/upstream/upstream-settings.ts";

/** How an upstream that a test plays behaves. */
export type Behaviour = "answers" | "fails" | "hangs";

/** An upstream in this process: GetStatus and Health are all it answers. */
export class FakeUpstream {
  /** To checks and to calls. */
  behaviour: Behaviour = "answers";
  /** It is there, and cannot tell anything: checks go on, and say so if `status` does. */
  storeAway = false;
  /** Every so many-th call fails, whatever the behaviour; checks do not. 0: none. */
  failEvery = 0;
  kind: "pbflagd" | "pbflags" = "pbflagd";
  status = EvaluatorStatus.SERVING;
  version: Version | undefined = { epoch: "one", revision: 1 };
  descriptorHash = "";
  /** Connections opened and not yet closed. */
  open = 0;
  /** Checks it was asked. */
  checks = 0;
  /** Other calls it was asked. */
  calls = 0;
  /** Streams that are open. */
  readonly streams = new Set<FakeStream>();
  /** Also those that were refused. */
  streamsEver = 0;
  /** An older pbflagd. */
  hasStreams = true;

  connect(target: string): Transport {
    this.open += 1;
    const closed = new AbortController();
    // One for each call under way.
    setMaxListeners(0, closed.signal);
    return {
      target,
      call: (method, request, deadline) => this.#answer(target, method, request, deadline, closed.signal),
      stream: (method, request, signal) => this.#stream(target, method, request, signal, closed.signal),
      [Symbol.asyncDispose]: async () => {
        if (closed.signal.aborted) return;
        this.open -= 1;
        closed.abort(new UpstreamError("connection", `Cannot reach ${target}: closed`));
      },
    };
  }

  async #answer<I extends DescMessage, O extends DescMessage>(
    target: string,
    method: UnaryMethod<I, O>,
    _request: MessageInitShape<I>,
    { signal }: Deadline,
    closed: AbortSignal,
  ): Promise<MessageShape<O>> {
    const isCheck = method.name === "GetStatus" || method.name === "Health";
    if (isCheck) this.checks += 1;
    else this.calls += 1;
    if (this.behaviour === "hangs") await Promise.race([whenAborted(signal), whenAborted(closed)]);
    const isItsTurn = !isCheck && this.failEvery > 0 && this.calls % this.failEvery === 0;
    if (this.behaviour === "fails" || isItsTurn)
      throw new UpstreamError("unavailable", `${target} answered unavailable`);
    if (!isCheck && this.storeAway)
      throw new UpstreamError("unavailable", `${target} answered unavailable: store away`, {
        answered: true,
      });
    if (method.parent.typeName === StateService.typeName && this.kind === "pbflags") {
      throw new UpstreamError("unimplemented", `${target} answered unimplemented`);
    }
    return fromBinary(method.output, this.#bytesOf(method.name));
  }

  async *#stream<I extends DescMessage, O extends DescMessage>(
    target: string,
    method: StreamMethod<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
    closed: AbortSignal,
  ): AsyncGenerator<MessageShape<O>> {
    signal.throwIfAborted();
    this.streamsEver += 1;
    if (this.behaviour === "fails") throw new UpstreamError("connection", `Cannot reach ${target}: refused`);
    if (!this.hasStreams || this.kind === "pbflags")
      throw new UpstreamError("unimplemented", `${target} answered unimplemented`, { answered: true });
    const stream = new FakeStream(request);
    this.streams.add(stream);
    try {
      for (;;) {
        const message = await Promise.race([stream.next(), whenAborted(signal), whenAborted(closed)]);
        if (message === undefined) return;
        yield create(method.output, message as never);
      }
    } finally {
      this.streams.delete(stream);
    }
  }

  #bytesOf(method: string): Uint8Array {
    const { status, version, descriptorHash } = this;
    if (method === "Health") return toBinary(HealthResponseSchema, create(HealthResponseSchema, { status }));
    if (method !== "GetStatus") return new Uint8Array();
    const known =
      version === undefined ? {} : { version: { epoch: version.epoch, revision: BigInt(version.revision) } };
    return toBinary(
      GetStatusResponseSchema,
      create(GetStatusResponseSchema, { status, descriptorHash, ...known }),
    );
  }
}

type Said = { readonly message: unknown } | { readonly error: Error };

/** A stream that is open, and says what the test says. */
export class FakeStream {
  readonly request: unknown;
  readonly #said: Said[] = [];
  #heard: (() => void) | undefined;

  constructor(request: unknown) {
    this.request = request;
  }

  say(message: object): void {
    this.#add({ message });
  }

  end(): void {
    this.#add({ message: undefined });
  }

  fail(error: Error): void {
    this.#add({ error });
  }

  /** Undefined: it has ended. */
  async next(): Promise<unknown> {
    if (this.#said.length === 0) {
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    }
    const said = this.#said.shift();
    if (said !== undefined && "error" in said) throw said.error;
    return said?.message;
  }

  #add(said: Said): void {
    this.#said.push(said);
    this.#heard?.();
  }
}

function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Settings as an operator gets them who sets nothing but this. */
export function upstreamSettings(
  settings: Partial<UpstreamSettings> & Pick<UpstreamSettings, "name">,
): UpstreamSettings {
  return {
    url: `http://${settings.name}:9201`,
    kind: "auto",
    priority: 0,
    weight: 1,
    auth: { method: "none" },
    tls: { caFile: undefined, serverName: undefined },
    retry: {
      maxRetries: 1,
      tryTimeoutMs: undefined,
      initialIntervalMs: 25,
      maxIntervalMs: 100,
      multiplier: 2,
      jitter: 0.1,
      budget: 0.1,
    },
    breaker: { failuresMax: 5, callsMin: 3, openMs: 30_000, successesToClose: 2 },
    rateLimit: undefined,
    connection: {
      connectionsMax: 64,
      idleTimeoutMs: 300_000,
      connectTimeoutMs: 250,
      requestTimeoutMs: 10_000,
      keepAliveMs: 30_000,
      compression: "none",
    },
    exec: { args: [], env: {}, startTimeoutMs: 5_000, stopTimeoutMs: 5_000 },
    ...settings,
  };
}

/** A pool as an operator gets it who names nothing but the upstreams. */
export function poolSettings(
  upstreams: readonly (Partial<UpstreamSettings> & Pick<UpstreamSettings, "name">)[],
  settings: Partial<PoolSettings> = {},
): PoolSettings {
  return {
    strategy: "round-robin",
    reloadStrategy: "graceful",
    drainTimeoutMs: 10_000,
    healthCheck: { intervalMs: 1_000, timeoutMs: 100, jitter: 0 },
    score: { initial: 1, min: -3, max: 3, success: 1, failure: -1 },
    upstreams: upstreams.map(upstreamSettings),
    ...settings,
  };
}
