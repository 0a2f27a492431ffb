import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatVersion } from "../../src/evaluation/version.ts";
import { EvaluationSource, FlagEvaluatorService } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { openNamespace } from "../../src/namespaces/namespace.ts";
import { createAdminStore } from "../../src/store/admin-store.ts";
import { connectDatabase } from "../../src/store/database.ts";
import { openPostgresStore } from "../../src/store/postgres-store.ts";
import { systemClock } from "../../src/system/clock.ts";
import { Latest } from "../../src/system/latest.ts";
import { openFlagsDatabase } from "../sql/flags-database.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../support/flag-builders.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { silentEvents } from "../support/silent-events.ts";
import { Link, Tier } from "../support/tiers.ts";
import {
  CLIENT_KINDS,
  type EvaluatorClient,
  type EvaluatorClients,
  openEvaluatorClients,
  sendHttp1,
} from "../support/wire-clients.ts";
import { evaluatorPath, type Served, serveMemory, serveNamespace } from "./serve-memory.ts";

const DAY_MS = 86_400_000;

/** Asks for a flag, at a version or later, and says what came with the answer. */
async function ask(client: EvaluatorClient, flagId: string, entityId: string, min?: string) {
  let headers = new Headers();
  const response = await client.evaluate(
    { flagId, entityId },
    {
      headers: min === undefined ? {} : { "pbflags-min-version": min },
      onHeader: (received) => {
        headers = received;
      },
    },
  );
  return {
    value: response.value?.value.value,
    source: response.source,
    version: headers.get("pbflags-version"),
    ageMs: headers.get("pbflags-state-age-ms"),
  };
}

async function failureOf(call: Promise<unknown>): Promise<{ code: Code; message: string }> {
  const error = await call.catch((thrown: unknown) => thrown);
  if (!(error instanceof ConnectError)) throw new Error(`expected a ConnectError, got ${String(error)}`);
  return { code: error.code, message: error.rawMessage };
}

describe.each(CLIENT_KINDS)("%s", (kind) => {
  let served: Served;
  let clients: EvaluatorClients;

  beforeAll(async () => {
    served = await serveMemory();
    clients = openEvaluatorClients(served.port);
  });

  afterAll(async () => {
    clients[Symbol.dispose]();
    await served[Symbol.asyncDispose]();
  });

  test("every RPC says at which version it answers, and how old that is", async () => {
    const { epoch, revision } = served.store.versionAt(served.store.head);
    const client = clients.of[kind];
    const told: (string | null)[] = [];
    const onHeader = (headers: Headers) => {
      told.push(headers.get("pbflags-version"));
      expect(headers.get("pbflags-state-age-ms")).toMatch(/^\d+$/);
    };
    await client.evaluate({ flagId: "notifications/1" }, { onHeader });
    await client.bulkEvaluate({}, { onHeader });
    await client.getFlagState({ flagId: "notifications/1" }, { onHeader });
    await client.getKilledFlags({}, { onHeader });
    await client.getOverrides({ entityId: "user-1" }, { onHeader });
    await client.health({}, { onHeader });
    expect(told).toEqual(
      Array.from({ length: FlagEvaluatorService.methods.length }, () => `${epoch}:${revision}`),
    );
  });

  test("an answer that does not exist is at a version, too", async () => {
    let version: string | null = null;
    const onHeader = (headers: Headers) => {
      version = headers.get("pbflags-version");
    };
    const failure = await clients.of[kind]
      .getFlagState({ flagId: "nobody/1" }, { onHeader })
      .catch((error: unknown) => error);
    // Connect's clients hand on an error's headers in its metadata.
    const metadata = failure instanceof ConnectError ? failure.metadata : new Headers();
    expect(version ?? metadata.get("pbflags-version")).toBe(
      formatVersion(served.store.versionAt(served.store.head)),
    );
  });

  test("a version that is not reached, and what is none, are told apart", async () => {
    const client = clients.of[kind];
    const { epoch, revision } = served.store.versionAt(served.store.head);
    const beganAt = systemClock.now();
    expect(await failureOf(ask(client, "notifications/1", "", `${epoch}:${revision + 1}`))).toEqual({
      code: Code.FailedPrecondition,
      message: `Cannot answer at version ${epoch}:${revision + 1} or later: this daemon is at ${epoch}:${revision}`,
    });
    expect(systemClock.now() - beganAt).toBeGreaterThan(450);
    expect(await failureOf(ask(client, "notifications/1", "", `elsewhere:${revision}`))).toMatchObject({
      code: Code.FailedPrecondition,
    });
    expect(await failureOf(ask(client, "notifications/1", "", "latest"))).toEqual({
      code: Code.InvalidArgument,
      message:
        'Cannot use pbflags-min-version: expected epoch:revision as feature_flags.version() tells it, got "latest"',
    });
    expect(served.internalErrors).toEqual([]);
  });
});

test("two headers of one name are no version", async () => {
  await using served = await serveMemory();
  const { status, body } = await sendHttp1(served.port, {
    method: "POST",
    path: evaluatorPath("evaluate"),
    headers: { "content-type": "application/json", "pbflags-min-version": ["epoch-1:1", "epoch-1:2"] },
    body: '{"flagId":"notifications/1"}',
  });
  expect([status, JSON.parse(body.toString())]).toMatchObject([400, { code: "invalid_argument" }]);
});

test("before the store is heard of, no headers are sent", async () => {
  await using served = await serveMemory({ storeAway: true });
  using clients = openEvaluatorClients(served.port);
  expect(await ask(clients.of["gRPC, HTTP/2"], "notifications/1", "")).toMatchObject({
    version: null,
    ageMs: null,
  });
});

describe("whoever asks for the version of his write gets what he wrote", () => {
  test("from a root that would not poll for a day", async () => {
    await using opened = await openFlagsDatabase();
    const { url } = opened;
    const flags = tableOf(defineFlag("shop/1", { type: "BOOL" }), defineFlag("shop/2"));
    await using namespace = openNamespace({
      flags: new Latest(flags),
      store: openPostgresStore({
        url,
        poolSize: 2,
        preparedStatements: "auto",
        fetchTimeoutMs: 10_000,
        clock: systemClock,
      }),
      clock: systemClock,
      random: () => 0.5,
      killTtlMs: DAY_MS,
      flagTtlMs: DAY_MS,
      overrideTtlMs: DAY_MS,
      negativeTtlMs: 5_000,
      overrideEntriesMax: 100,
      jitter: 0,
      events: silentEvents,
      traceStoreCall: (_, run) => run(),
    });
    await namespace.whenReady(AbortSignal.timeout(10_000));
    await using served = await serveNamespace(namespace);
    using clients = openEvaluatorClients(served.port);
    await using database = await connectDatabase({ url });
    const store = createAdminStore(database, { actor: "ann" });

    for (const kind of CLIENT_KINDS) {
      const asker = (flagId: string, entityId: string, min?: string) =>
        ask(clients.of[kind], flagId, entityId, min);
      const before = await asker("shop/2", "ann");
      const written = await store.setValue("shop/2", `by ${kind}`);
      // Nobody else has told the daemon of it.
      expect(await asker("shop/2", "ann")).toMatchObject({ value: before.value, version: before.version });
      expect(await asker("shop/2", "ann", written.version)).toMatchObject({
        value: `by ${kind}`,
        source: EvaluationSource.GLOBAL,
        version: written.version,
      });
      const override = await store.setOverride("shop/2", "ann", "hers");
      expect(await asker("shop/2", "ann", override.version)).toMatchObject({
        value: "hers",
        source: EvaluationSource.OVERRIDE,
      });
      const removed = await store.removeOverride("shop/2", "ann");
      expect(await asker("shop/2", "ann", removed.version)).toMatchObject({ value: `by ${kind}` });
      const killed = await store.kill("shop/1");
      expect(await asker("shop/1", "ann", killed.version)).toMatchObject({ source: EvaluationSource.KILLED });
      const revived = await store.revive("shop/1");
      expect(await asker("shop/1", "ann", revived.version)).toMatchObject({
        source: EvaluationSource.DEFAULT,
      });
    }
    expect(await opened.one("SELECT feature_flags.version()")).toBe(
      (await ask(clients.of["gRPC, HTTP/2"], "shop/1", "")).version,
    );
  });

  test("from an edge two tiers away", async () => {
    const clock = new FakeClock();
    const store = new MemoryStore();
    store.set(stateOf("a/1"));
    store.setOverride(overrideOf("a/1", "ann"));
    const ttls = { killTtlMs: DAY_MS, flagTtlMs: DAY_MS, overrideTtlMs: DAY_MS, jitter: 0 };
    const options = { clock, table: tableOf(defineFlag("a/1")), ttls };
    await using root = new Tier(options, { kind: "store", store });
    await using middle = new Tier(options, { kind: "tiers", links: [new Link(root)] });
    await using edge = new Tier(options, { kind: "tiers", links: [new Link(middle)] });
    await clock.advance(5_000);
    await using served = await serveNamespace(edge.namespace, { clock });
    using clients = openEvaluatorClients(served.port);

    for (const kind of CLIENT_KINDS) {
      const asker = (entityId: string, min?: string) => ask(clients.of[kind], "a/1", entityId, min);
      const version = () => formatVersion(store.versionAt(store.head));
      const before = await asker("bob");
      await asker("ann");
      store.set(stateOf("a/1", { value: flagValue(`by ${kind}`) }));
      expect(await asker("bob")).toMatchObject({ value: before.value, version: before.version });
      expect(await asker("bob", version())).toMatchObject({
        value: `by ${kind}`,
        source: EvaluationSource.GLOBAL,
        version: version(),
      });
      // Polls that somebody waits for rest a moment in between.
      await clock.advance(1_000);
      store.setOverride(overrideOf("a/1", "ann", { value: flagValue(`hers by ${kind}`) }));
      expect(await asker("ann", version())).toMatchObject({ value: `hers by ${kind}`, version: version() });
      await clock.advance(1_000);
      store.set(stateOf("a/1", { mode: "killed" }));
      expect(await asker("bob", version())).toMatchObject({ source: EvaluationSource.KILLED });
      await clock.advance(1_000);
      store.set(stateOf("a/1"));
      expect(await asker("bob", version())).toMatchObject({ source: EvaluationSource.GLOBAL });
      await clock.advance(1_000);
    }
    expect(served.internalErrors).toEqual([]);
  });
});
