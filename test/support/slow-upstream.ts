import { create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { State } from "../../src/gen/pbflags/v1/types_pb.ts";
import type { Clock } from "../../src/system/clock.ts";
import { openUpstreamPool } from "../../src/upstream/pool/pool.ts";
import type { UpstreamKind, UpstreamPool } from "../../src/upstream/pool/upstream-pool.ts";
import type { UnaryMethod } from "../../src/upstream/transport/transport.ts";
import { UpstreamError } from "../../src/upstream/upstream-error.ts";
import type { PoolSettings } from "../../src/upstream/upstream-settings.ts";
import { poolSettings } from "./fake-upstream.ts";
import { flagValue } from "./flag-builders.ts";
import { noStream } from "./no-stream.ts";
import { silentPoolEvents } from "./silent-events.ts";

const ON = flagValue("on");

/** An upstream in this process that takes its time for each question, but for checks. */
export class SlowUpstream {
  readonly kind: UpstreamKind;
  /** For each question, on the clock. */
  latencyMs = 0;
  /** Questions under way, and the most there have been. */
  underWay = 0;
  mostUnderWay = 0;
  readonly #clock: Pick<Clock, "sleep">;

  constructor(kind: UpstreamKind, clock: Pick<Clock, "sleep">) {
    this.kind = kind;
    this.#clock = clock;
  }

  async answer<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): Promise<MessageShape<O>> {
    signal.throwIfAborted();
    const { flagId, entityId } = request as { readonly flagId?: string; readonly entityId?: string };
    if (method.name === "GetStatus" && this.kind === "pbflags")
      throw new UpstreamError("unimplemented", "answered unimplemented", { answered: true });
    if (!["GetStatus", "Health"].includes(method.name)) await this.#takeTime(signal);
    const flag = flagId === undefined ? {} : { flag: { flagId, state: State.ENABLED, value: ON } };
    const overrides =
      entityId === undefined
        ? {}
        : { overrides: [{ flagId: "a/1", entityId, state: State.ENABLED, value: ON }] };
    return create(method.output, { ...flag, ...overrides } as never);
  }

  async #takeTime(signal: AbortSignal): Promise<void> {
    this.underWay += 1;
    this.mostUnderWay = Math.max(this.mostUnderWay, this.underWay);
    try {
      await this.#clock.sleep(this.latencyMs, signal);
    } finally {
      this.underWay -= 1;
    }
  }
}

/** A pool of these, which notes why tries have failed. */
export function openSlowPool(
  upstreams: Readonly<Record<string, SlowUpstream>>,
  clock: Clock,
  settings: Partial<PoolSettings> = {},
): { readonly pool: UpstreamPool; readonly failures: unknown[] } {
  const failures: unknown[] = [];
  const pool = openUpstreamPool({
    settings: poolSettings(
      Object.keys(upstreams).map((name) => ({ name })),
      settings,
    ),
    openTransport({ name, url }) {
      const closed = new AbortController();
      return {
        target: url,
        call(method, request, { signal }) {
          const upstream = upstreams[name];
          if (upstream === undefined) throw new Error(`There is no upstream ${name}`);
          return upstream.answer(method, request, AbortSignal.any([signal, closed.signal]));
        },
        stream: noStream,
        [Symbol.asyncDispose]: async () =>
          closed.abort(new UpstreamError("connection", `Cannot reach ${url}: closed`)),
      };
    },
    clock,
    random: () => 0.5,
    events: {
      ...silentPoolEvents,
      onCall(_name, _operation, _durationMs, error) {
        if (error !== undefined) failures.push(error);
      },
    },
  });
  return { pool, failures };
}
