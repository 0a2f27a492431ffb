import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import type { Evaluation } from "../../src/evaluation/precedence.ts";
import type { FlagTable } from "../../src/flags/definition.ts";
import { StateService } from "../../src/gen/pbflagd/v1/state_pb.ts";
import { type Namespace, type NamespaceOptions, openNamespace } from "../../src/namespaces/namespace.ts";
import { nameOf } from "../../src/server/rpc/codes.ts";
import { createStateService } from "../../src/server/state-service.ts";
import type { FlagStore } from "../../src/store/flag-store.ts";
import { StoreError } from "../../src/store/flag-store.ts";
import { openUpstreamStore } from "../../src/store/upstream-store.ts";
import { Latest } from "../../src/system/latest.ts";
import { openUpstreamPool } from "../../src/upstream/pool/pool.ts";
import type { UpstreamPool } from "../../src/upstream/pool/upstream-pool.ts";
import type { Deadline } from "../../src/upstream/transport/deadline.ts";
import type { Transport, UnaryMethod } from "../../src/upstream/transport/transport.ts";
import { UpstreamError } from "../../src/upstream/upstream-error.ts";
import type { PoolSettings } from "../../src/upstream/upstream-settings.ts";
import type { FakeClock } from "./fake-clock.ts";
import { poolSettings } from "./fake-upstream.ts";
import type { MemoryStore } from "./memory-store.ts";
import { silentEvents } from "./silent-events.ts";

const FETCH_TIMEOUT_MS = 500;

export interface TierOptions {
  readonly clock: FakeClock;
  readonly table: FlagTable;
  readonly random?: () => number;
  readonly ttls?: Partial<
    Pick<NamespaceOptions, "killTtlMs" | "flagTtlMs" | "overrideTtlMs" | "jitter" | "overrideEntriesMax">
  >;
  /** Told of every change of the kill set's version. */
  readonly onKillSet?: NamespaceOptions["events"]["onKillSet"];
}

/** What a tier reads from. */
export type Source =
  | { readonly kind: "store"; readonly store: MemoryStore }
  | {
      readonly kind: "tiers";
      readonly links: readonly Link[];
      readonly pool?: Partial<PoolSettings>;
      /** Of the links, in their order. */
      readonly priorities?: readonly number[];
    };

/** The way from one tier to its upstream. */
export class Link {
  /** Whom it leads to; another one once that was restarted. Undefined: nobody is there. */
  to: Tier | undefined;
  /** Calls are lost on the way, and end by their deadline. */
  cut = false;
  /** Told of each call that sets out. */
  onCall: (method: string) => void = () => {};

  constructor(to: Tier | undefined) {
    this.to = to;
  }

  connect(target: string): Transport {
    return {
      target,
      call: (method, request, deadline) => this.#call(target, method, request, deadline),
      [Symbol.asyncDispose]: async () => {},
    };
  }

  async #call<I extends DescMessage, O extends DescMessage>(
    target: string,
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
    { signal }: Deadline,
  ): Promise<MessageShape<O>> {
    signal.throwIfAborted();
    this.onCall(method.name);
    if (this.cut) await whenAborted(signal);
    if (this.to === undefined) throw new UpstreamError("connection", `Cannot reach ${target}: refused`);
    const sent = fromBinary(method.input, toBinary(method.input, create(method.input, request)));
    try {
      const answer = await Promise.race([this.to.answer(method.name, sent, signal), whenAborted(signal)]);
      if (this.cut) await whenAborted(signal);
      return fromBinary(method.output, toBinary(method.output, create(method.output, answer as never)));
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
      const code = nameOf(error.code);
      throw new UpstreamError(code, `${target} answered ${code}: ${error.rawMessage}`, { answered: true });
    }
  }
}

/** One evaluator in this process, over a store in memory or over other tiers. */
export class Tier implements AsyncDisposable {
  readonly namespace: Namespace;
  readonly pool: UpstreamPool | undefined;
  /** Only for a tier over a store: whether it can be reached from here. */
  storeAway = false;
  readonly #service: Readonly<Record<string, (request: unknown, context: unknown) => unknown>>;

  constructor({ clock, table, random = () => 0.5, ttls = {}, onKillSet }: TierOptions, source: Source) {
    const pool =
      source.kind === "store"
        ? undefined
        : openPool(source, { clock, random, onUsable: () => this.namespace.storeReturned() });
    this.pool = pool;
    const store =
      source.kind === "store"
        ? this.#reach(source.store)
        : openUpstreamStore({ pool: pool as UpstreamPool, fetchTimeoutMs: FETCH_TIMEOUT_MS, clock });
    this.namespace = openNamespace({
      flags: new Latest(table),
      store,
      clock,
      random,
      killTtlMs: 30_000,
      flagTtlMs: 300_000,
      overrideTtlMs: 300_000,
      negativeTtlMs: 5_000,
      overrideEntriesMax: 10_000,
      jitter: 0.2,
      returnSpreadMs: source.kind === "store" ? 0 : 3_000,
      ...ttls,
      events: { ...silentEvents, ...(onKillSet === undefined ? {} : { onKillSet }) },
      traceStoreCall: (_, run) => run(),
    });
    this.#service = createStateService({
      namespace: this.namespace,
      catchUpTimeoutMs: FETCH_TIMEOUT_MS,
      version: "test",
      clock,
    }) as never;
  }

  async answer(method: string, request: unknown, signal: AbortSignal): Promise<unknown> {
    const name = `${method.charAt(0).toLowerCase()}${method.slice(1)}`;
    if (!StateService.methods.some(({ localName }) => localName === name)) {
      throw new UpstreamError("unimplemented", `answered unimplemented: ${method}`, { answered: true });
    }
    return this.#service[name]?.(request, { signal, timeoutMs: () => undefined });
  }

  evaluate(flagId: string, entityId = ""): Promise<Evaluation> {
    return Promise.resolve(this.namespace.evaluate(flagId, entityId));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.namespace[Symbol.asyncDispose]();
  }

  #reach(store: MemoryStore): FlagStore {
    const reached = <T>(read: () => Promise<T>): Promise<T> =>
      this.storeAway ? Promise.reject(new StoreError("Cannot reach store: it is away")) : read();
    return {
      flagStates: (flagIds) => reached(() => store.flagStates(flagIds)),
      overrides: (entityIds) => reached(() => store.overrides(entityIds)),
      kills: (since) => reached(() => store.kills(since)),
      [Symbol.asyncDispose]: async () => {},
    };
  }
}

function openPool(
  { links, pool = {}, priorities = [] }: Extract<Source, { readonly kind: "tiers" }>,
  {
    clock,
    random,
    onUsable,
  }: { readonly clock: FakeClock; readonly random: () => number; readonly onUsable: () => void },
): UpstreamPool {
  const named = links.map((link, i) => ({ name: `tier-${i}`, link, priority: priorities[i] ?? 0 }));
  const byName = new Map(named.map(({ name, link }) => [name, link]));
  return openUpstreamPool({
    settings: poolSettings(
      named.map(({ name, priority }) => ({ name, priority })),
      pool,
    ),
    openTransport: ({ name, url }) => (byName.get(name) ?? new Link(undefined)).connect(url),
    clock,
    random,
    events: {
      onCall: () => {},
      onRetry: () => {},
      onRejected: () => {},
      onBreakerChange: () => {},
      onStateChange: () => {},
      onUsable,
      onDescriptorHash: () => {},
    },
  });
}

function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
