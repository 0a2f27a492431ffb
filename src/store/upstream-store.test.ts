import { once } from "node:events";
import { createServer } from "node:http";
import { create, fromJson } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { expect, onTestFinished, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { poolSettings, upstreamSettings } from "../../test/support/fake-upstream.ts";
import { noStream } from "../../test/support/no-stream.ts";
import { silentPoolEvents } from "../../test/support/silent-events.ts";
import {
  FlagEvaluatorService,
  GetFlagStateResponseSchema,
  GetOverridesResponseSchema,
} from "../gen/pbflags/v1/evaluator_pb.ts";
import { type FlagValue, FlagValueSchema, State } from "../gen/pbflags/v1/types_pb.ts";
import { openUpstreamPool } from "../upstream/pool/pool.ts";
import { openTransport } from "../upstream/transport/open-transport.ts";
import { UpstreamError } from "../upstream/upstream-error.ts";
import { type FlagStore, StoreError } from "./flag-store.ts";
import { openUpstreamStore } from "./upstream-store.ts";

type Service = Partial<ServiceImpl<typeof FlagEvaluatorService>>;

const ON: FlagValue = create(FlagValueSchema, { value: { case: "boolValue", value: true } });

test("reads the states of flags, and leaves out those that have no row", async () => {
  await using upstream = await openUpstream({
    getFlagState({ flagId }) {
      if (flagId === "gone/1") throw new ConnectError("no such flag", Code.NotFound);
      const flag = { flagId, state: flagId === "killed/1" ? State.KILLED : State.ENABLED, value: ON };
      return { flag, archived: flagId === "old/1" };
    },
  });
  const { value, version, ageMs } = await upstream.store.flagStates(["a/1", "gone/1", "killed/1", "old/1"]);
  expect([...value.keys()]).toEqual(["a/1", "killed/1", "old/1"]);
  expect(value.get("a/1")).toEqual({
    flagId: "a/1",
    mode: "enabled",
    value: ON,
    archived: false,
    type: undefined,
  });
  expect(value.get("killed/1")?.mode).toBe("killed");
  expect(value.get("old/1")?.archived).toBe(true);
  expect({ version, ageMs }).toEqual({ version: undefined, ageMs: 0 });
});

test("asks for 200 flags with at most 16 calls under way", async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on("warning", onWarning);
  onTestFinished(() => void process.off("warning", onWarning));
  let running = 0;
  let most = 0;
  await using upstream = await openUpstream({
    async getFlagState({ flagId }) {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      return { flag: { flagId, state: State.DEFAULT } };
    },
  });
  const flagIds = Array.from({ length: 200 }, (_, i) => `a/${i}`);
  const { value } = await upstream.store.flagStates(flagIds);
  expect([...value.keys()]).toEqual(flagIds);
  expect(most).toBeGreaterThan(1);
  expect(most).toBeLessThanOrEqual(16);
  expect(warnings).toEqual([]);
});

test("a flag that the upstream cannot tell hides no other; it is invalid, and says why", async () => {
  await using upstream = await openUpstream({
    getFlagState({ flagId }) {
      if (flagId === "broken/1") throw new ConnectError("wrapped: cannot decode", Code.Internal);
      if (flagId === "gone/1") throw new ConnectError("no such flag", Code.NotFound);
      return { flag: { flagId, state: State.ENABLED, value: ON } };
    },
  });
  const { value } = await upstream.store.flagStates(["a/1", "broken/1", "gone/1"]);
  expect([...value.keys()]).toEqual(["a/1", "broken/1"]);
  expect(value.get("a/1")?.value).toEqual(ON);
  expect(value.get("broken/1")).toMatchObject({ mode: "default", value: undefined });
  expect(value.get("broken/1")?.invalid).toContain("wrapped: cannot decode");
});

test("a flag that the upstream cannot tell any more keeps the state told last, unless that was a kill", async () => {
  let broken = false;
  await using upstream = await openUpstream({
    getFlagState({ flagId }) {
      if (broken && flagId !== "fine/1") throw new ConnectError("store away", Code.Unavailable);
      return { flag: { flagId, state: flagId === "killed/1" ? State.KILLED : State.ENABLED, value: ON } };
    },
  });
  await upstream.store.flagStates(["a/1", "killed/1"]);
  broken = true;
  const { value } = await upstream.store.flagStates(["a/1", "killed/1", "fine/1"]);
  expect(value.get("a/1")).toMatchObject({ mode: "enabled", value: ON });
  // Repeated, it would undo a revive that the kill set has told since.
  expect(value.get("killed/1")).toMatchObject({
    mode: "default",
    invalid: expect.stringContaining("store away"),
  });
});

test.each<[string, Code]>([
  ["it does not know us", Code.Unauthenticated],
  ["it has no such RPC", Code.Unimplemented],
  ["it has had enough", Code.ResourceExhausted],
])("asking for flags fails where %s", async (_, code) => {
  await using upstream = await openUpstream({
    getFlagState({ flagId }) {
      if (flagId === "a/1") return { flag: { flagId, state: State.ENABLED } };
      throw new ConnectError("no", code);
    },
  });
  await expect(upstream.store.flagStates(["a/1", "b/1"])).rejects.toThrow(StoreError);
});

test("where nothing at all could be told, all flags are untold, and the upstream has not failed", async () => {
  await using upstream = await openUpstream({
    getFlagState() {
      throw new ConnectError("wrapped: store away", Code.Internal);
    },
  });
  const { value, untold } = await upstream.store.flagStates(["a/1", "b/1"]);
  expect([value.size, [...(untold ?? [])]]).toEqual([0, ["a/1", "b/1"]]);
});

test("an answer about another flag, or none, is no answer", async () => {
  await using upstream = await openUpstream({
    getFlagState: ({ flagId }) => (flagId === "a/1" ? { flag: { flagId: "b/1", state: State.ENABLED } } : {}),
    getOverrides: () => ({ overrides: [{ flagId: "a/1", entityId: "bob", state: State.ENABLED }] }),
  });
  await expect(upstream.store.flagStates(["a/1"])).rejects.toThrow('must be of "a/1", got "b/1"');
  await expect(upstream.store.flagStates(["c/1"])).rejects.toThrow('must be of "c/1", got none');
  await expect(upstream.store.overrides(["eve"])).rejects.toThrow('must be of entity "eve", got "bob"');
});

test("a state from later than us serves nothing, and says so", async () => {
  const flag = { flagId: "a/1", state: 9, value: { boolValue: true } };
  await using upstream = await openUpstream({
    getFlagState: () => fromJson(GetFlagStateResponseSchema, { flag }),
    getOverrides: () => fromJson(GetOverridesResponseSchema, { overrides: [{ ...flag, entityId: "bob" }] }),
  });
  const invalid = { mode: "default", value: undefined, invalid: "expected a state, got 9" };
  const states = await upstream.store.flagStates(["a/1"]);
  expect(states.value.get("a/1")).toMatchObject(invalid);
  const overrides = await upstream.store.overrides(["bob"]);
  expect(overrides.value.get("bob")?.get("a/1")).toMatchObject(invalid);
});

test("reads overrides by entity, and leaves out entities that have none", async () => {
  await using upstream = await openUpstream({
    getOverrides: ({ entityId, flagIds }) => ({
      overrides:
        entityId === "nobody" || flagIds.length > 0
          ? []
          : [
              { flagId: "a/1", entityId, state: State.ENABLED, value: ON },
              { flagId: "a/2", entityId, state: State.KILLED },
            ],
    }),
  });
  const { value, version } = await upstream.store.overrides(["bob", "nobody", "eve"]);
  expect([...value.keys()]).toEqual(["bob", "eve"]);
  expect([...(value.get("bob")?.values() ?? [])]).toEqual([
    { flagId: "a/1", entityId: "bob", mode: "enabled", value: ON },
    { flagId: "a/2", entityId: "bob", mode: "killed", value: undefined },
  ]);
  expect(version).toBeUndefined();
});

test("reads the kill set, an empty one too; what changed is not known", async () => {
  let flagIds: string[] = ["a/1", "b/2"];
  await using upstream = await openUpstream({
    getKilledFlags: () => ({ flagIds, killedOverrides: [{ flagId: "c/1", entityId: "bob" }] }),
  });
  const { value } = await upstream.store.kills(undefined);
  expect([...value.flagIds]).toEqual(["a/1", "b/2"]);
  expect(value.overrides).toEqual([{ flagId: "c/1", entityId: "bob" }]);
  expect(value.changes).toEqual({ kind: "unknown" });
  flagIds = [];
  expect((await upstream.store.kills(undefined)).value.flagIds.size).toBe(0);
});

test("an upstream that does not know the kill set has none to give", async () => {
  await using upstream = await openUpstream({
    getKilledFlags() {
      throw new ConnectError("never heard", Code.Unavailable);
    },
  });
  await expect(upstream.store.kills(undefined)).rejects.toMatchObject({
    name: "StoreError",
    message: expect.stringContaining("never heard"),
    cause: { name: "UpstreamError", code: "unavailable" },
  });
});

test("one deadline covers all calls of a batch, what was told by then counts, and what is under way ends with it", async () => {
  const clock = new FakeClock();
  let started = 0;
  let ended = 0;
  const { promise: full, resolve: onFull } = deferred();
  const { promise: empty, resolve: onEmpty } = deferred();
  await using upstream = await openUpstream(
    {
      async getFlagState({ flagId }, { signal }) {
        started += 1;
        if (started <= 8) return { flag: { flagId, state: State.ENABLED } };
        if (started === 24) onFull();
        if (!signal.aborted) await once(signal, "abort");
        ended += 1;
        if (ended === 16) onEmpty();
        return {};
      },
    },
    clock,
  );
  const flagIds = Array.from({ length: 100 }, (_, i) => `a/${i}`);
  const asking = upstream.store.flagStates(flagIds);
  await full;
  await clock.advance(500);
  const { value, untold } = await asking;
  expect([...value.keys(), ...(untold ?? [])].toSorted()).toEqual(flagIds.toSorted());
  expect(value.size).toBe(8);
  await empty;
  expect(started).toBe(24);
  expect(clock.sleeperCount).toBe(0);
});

test.each(["flagStates", "overrides"] as const)(
  "asking for %s fails where nothing at all is answered in time",
  async (question) => {
    const clock = new FakeClock();
    const { promise: hanging, resolve: onHanging } = deferred();
    const hang = async (_: unknown, { signal }: { readonly signal: AbortSignal }) => {
      onHanging();
      if (!signal.aborted) await once(signal, "abort");
      return {};
    };
    await using upstream = await openUpstream({ getFlagState: hang, getOverrides: hang }, clock);
    const asking = upstream.store[question](["a/1", "b/1"]).catch((error: unknown) => error);
    await hanging;
    await clock.advance(500);
    expect(await asking).toMatchObject({
      name: "StoreError",
      message: expect.stringContaining("no answer within 500 ms"),
    });
  },
);

test("an entity that the upstream cannot tell hides no other, and is untold", async () => {
  await using upstream = await openUpstream({
    getOverrides({ entityId }) {
      if (entityId === "bob") throw new ConnectError("wrapped: connection refused", Code.Internal);
      return { overrides: [{ flagId: "a/1", entityId, state: State.ENABLED, value: ON }] };
    },
  });
  const { value, untold } = await upstream.store.overrides(["ann", "bob", "eve"]);
  expect([[...value.keys()], [...(untold ?? [])]]).toEqual([["ann", "eve"], ["bob"]]);
  // Of one alone just the same: it has answered, and that is no failure of its.
  const alone = await upstream.store.overrides(["bob"]);
  expect([alone.value.size, [...(alone.untold ?? [])]]).toEqual([0, ["bob"]]);
});

test.each<[string, "pbflagd" | "pbflags", object]>([
  ["a row that was not asked for", "pbflagd", { rows: [{ flagId: "b/1", state: State.ENABLED }] }],
  ["a version that no database has", "pbflagd", { version: { epoch: "", revision: 1n } }],
  ["another flag", "pbflags", { flag: { flagId: "b/1", state: State.ENABLED } }],
])(
  "where one upstream tells %s (%s), another is asked, and that counts against it",
  async (_, kind, nonsense) => {
    const clock = new FakeClock();
    const failed: string[] = [];
    const asked: string[] = [];
    const good = kind === "pbflagd" ? {} : { flag: { flagId: "a/1", state: State.ENABLED } };
    const pool = openUpstreamPool({
      settings: poolSettings([
        { name: "a", kind },
        { name: "b", kind },
      ]),
      openTransport: ({ name, url }) => ({
        target: url,
        async call(method) {
          const isCheck = ["GetStatus", "Health"].includes(method.name);
          if (!isCheck) asked.push(name);
          return create(method.output, (isCheck ? {} : asked.length === 1 ? nonsense : good) as never);
        },
        stream: noStream,
        [Symbol.asyncDispose]: async () => {},
      }),
      clock,
      random: () => 0.5,
      events: {
        ...silentPoolEvents,
        onCall: (name, _operation, _durationMs, error) => {
          if (error !== undefined)
            failed.push(`${name}: ${error instanceof UpstreamError ? error.code : "another error"}`);
        },
      },
    });
    await using store = openUpstreamStore({ pool, fetchTimeoutMs: 500, clock });
    const asking = store.flagStates(["a/1"]);
    await settle();
    await clock.advance(100);
    expect((await asking).value.size).toBe(kind === "pbflagd" ? 0 : 1);
    expect(new Set(asked)).toEqual(new Set(["a", "b"]));
    expect(failed).toEqual([`${String(asked[0])}: answer`]);
  },
);

test.each(["round-robin", "consistent-hash"] as const)(
  "where the upstreams' own store is away no row is told, and nothing has failed; where nobody was reached it has (%s)",
  async (strategy) => {
    let error = new UpstreamError("unavailable", "a answered unavailable", { answered: true });
    await using store = openUpstreamStore({
      pool: { strategy, call: () => Promise.reject(error), [Symbol.asyncDispose]: async () => {} },
      fetchTimeoutMs: 500,
      clock: new FakeClock(),
    });
    const states = await store.flagStates(["a/1", "b/1"]);
    expect([states.value.size, [...(states.untold ?? [])]]).toEqual([0, ["a/1", "b/1"]]);
    const overrides = await store.overrides(["ann", "bob"]);
    expect([overrides.value.size, [...(overrides.untold ?? [])]]).toEqual([0, ["ann", "bob"]]);
    await expect(store.kills(undefined), "without a kill set there is nothing to go on with").rejects.toThrow(
      StoreError,
    );

    error = new UpstreamError("unavailable", "Cannot ask any upstream: a is down");
    await expect(store.flagStates(["a/1"])).rejects.toThrow("a is down");
    await expect(store.overrides(["ann"])).rejects.toThrow("a is down");
  },
);

test("nothing is asked of the upstream for no flags at all", async () => {
  await using upstream = await openUpstream({});
  expect((await upstream.store.flagStates([])).value.size).toBe(0);
  expect((await upstream.store.overrides([])).value.size).toBe(0);
});

test("an upstream that comes back is found again", async () => {
  await using upstream = await openUpstream({ getKilledFlags: () => ({ flagIds: ["a/1"] }) });
  await upstream.store.kills(undefined);
  await upstream.stop();
  await expect(upstream.store.kills(undefined)).rejects.toThrow(StoreError);
  await upstream.start();
  expect((await upstream.store.kills(undefined)).value.flagIds.size).toBe(1);
});

interface Upstream extends AsyncDisposable {
  readonly store: FlagStore;
  stop(): Promise<void>;
  /** Again, on the same port. */
  start(): Promise<void>;
}

/** A real server that speaks Connect, and a store that reads from it. */
async function openUpstream(service: Service, clock = new FakeClock()): Promise<Upstream> {
  const handler = connectNodeAdapter({ routes: (router) => router.service(FlagEvaluatorService, service) });
  let server = createServer(handler);
  let port = 0;
  const upstream = {
    async start() {
      server = createServer(handler).listen(port, "127.0.0.1");
      await once(server, "listening");
      const address = server.address();
      port = typeof address === "object" && address !== null ? address.port : 0;
    },
    async stop() {
      server.closeAllConnections();
      if (server.listening) await once(server.close(), "close");
    },
  };
  await upstream.start();
  const settings = upstreamSettings({ name: "plain", url: `http://127.0.0.1:${port}` });
  const transport = openTransport({ settings, clock });
  const store = openUpstreamStore({
    pool: {
      strategy: "round-robin",
      call: ({ deadline, run }) =>
        run({
          name: "plain",
          kind: "pbflags",
          call: (method, request) => transport.call(method, request, deadline),
        }),
      [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose](),
    },
    fetchTimeoutMs: 500,
    clock,
  });
  return {
    ...upstream,
    store,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await upstream.stop();
    },
  };
}

function deferred() {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
