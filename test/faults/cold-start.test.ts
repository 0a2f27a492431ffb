import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, test } from "vitest";
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../src/gen/grpc/health/v1/health_pb.ts";
import { answersTo, IMPATIENTLY, openScene, type Scene, SOON, serveArgs, through } from "../daemon/scene.ts";
import { failToStart, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

// Fault 4, of a root. Of a proxy that keeps its knowledge, push.test.ts and descriptors-from-upstream.test.ts.

// They mostly wait, so they wait side by side.
describe.concurrent("a cold start", () => {
  const absences: Readonly<Record<string, (proxy: TcpProxy) => void>> = {
    "out of reach": (proxy) => proxy.cut(),
    silent: (proxy) => proxy.drop(),
    "speaking garbage": (proxy) => proxy.garble(),
  };

  test.for(Object.entries(absences))(
    "started while the store is %s, it serves defaults and does not claim to be ready",
    async ([, fail], { expect }) => {
      await using database = await createTestDatabase();
      await using scene = await openScene(database);
      await using proxy = await openTcpProxy(Number(new URL(database.url).port));
      fail(proxy);
      await using daemon = await startDaemon({ args: argsThrough(proxy, database, scene) });
      expect(await standing(daemon)).toMatchObject(NOT_READY);
      await eventually(async () => (await daemon.readiness()).checks["database"]?.healthy === false);
      expect(await standing(daemon)).toMatchObject(NOT_READY);

      proxy.restore();
      await expect.poll(() => standing(daemon), SOON).toMatchObject(READY);
    },
  );

  test.for(Object.entries(absences))(
    "restarted with what it knew while the store is %s, it is ready, kills hold from the first answer on, and it owns up",
    async ([, fail], { expect }) => {
      await using database = await createTestDatabase();
      await using scene = await openScene(database);
      await using proxy = await openTcpProxy(Number(new URL(database.url).port));
      const stateDir = await mkdtemp(join(tmpdir(), "pbflagd-state-"));
      try {
        const args = [...argsThrough(proxy, database, scene), "--state-dir", stateDir];
        const first = await startDaemon({ args });
        await first.whenReady();
        expect(await answersTo(first, "ann")()).toMatchObject(READY.answers);
        fail(proxy);
        expect(await first.stop()).toBe(0);
        const stoppedAt = Date.now();

        await using second = await startDaemon({ args });
        expect(await answersTo(second, "ann")()).toMatchObject(REMEMBERED);
        const { status, checks } = await second.readiness();
        expect(status).toBe(200);
        await eventually(async () => (await second.readiness()).checks["state"]?.healthy === false);
        const { message = "" } = (await second.readiness()).checks["state"] ?? {};
        expect(Object.keys(checks)).toContain("database");
        const [, heard = ""] =
          /^the store has not been heard since (\S+): answers come from memory$/.exec(message) ?? [];
        expect(Date.parse(heard), message).toBeLessThanOrEqual(stoppedAt);
        expect(Date.parse(heard), message).toBeGreaterThan(stoppedAt - 60_000);

        await scene.operate((store) => store.revive("shop/4"));
        proxy.restore();
        await expect.poll(answersTo(second, "ann"), SOON).toMatchObject({
          ...READY.answers,
          "shop/4": '{"doubleValue":0.9} GLOBAL',
        });
      } finally {
        await rm(stateDir, { recursive: true });
      }
    },
  );

  test("restarted during an outage, it comes back not ready, and recovers", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using proxy = await openTcpProxy(Number(new URL(database.url).port));
    const args = argsThrough(proxy, database, scene);
    const first = await startDaemon({ args });
    await first.whenReady();
    expect(await first.evaluate("shop/3")).toMatchObject({ value: { int64Value: "7" } });
    proxy.cut();
    expect(await first.stop()).toBe(0);

    await using second = await startDaemon({ args: [...args, "--listen", `127.0.0.1:${first.port}`] });
    expect(await standing(second)).toMatchObject(NOT_READY);
    proxy.restore();
    await expect.poll(() => standing(second), SOON).toMatchObject(READY);
  });

  test("a database that is far away is reached with the time that a read has by default, and listened to", async ({
    expect,
  }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using proxy = await openTcpProxy(Number(new URL(database.url).port));
    // To open a session takes three ways there and back, and a read has half a second for all it does.
    proxy.slow(100);
    const args = [...serveArgs(through(proxy, database.url), scene), "--cache-fetch-timeout", "500ms"];
    await using daemon = await startDaemon({ args });
    await expect.poll(() => standing(daemon), SOON).toMatchObject(READY);
    await eventually(async () => (await daemon.metric("pbflags_feed_connected"))[""] === 1);
    await scene.operate((store) => store.kill("shop/3"));
    await expect.poll(answersTo(daemon, ""), SOON).toMatchObject({ "shop/3": '{"int64Value":"5"} KILLED' });
    expect(proxy.connectionCount).toBeLessThanOrEqual(5);
  });

  test("a database that is not migrated is as good as none, until it is", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await scene.sql("ALTER SCHEMA feature_flags RENAME TO hidden");
    await using daemon = await startDaemon({ args: serveArgs(database.url, scene) });
    expect(await standing(daemon)).toMatchObject(NOT_READY);
    await eventually(() => daemon.log.some(({ reason }) => String(reason).includes("run `pbflagd migrate`")));
    await scene.sql("ALTER SCHEMA hidden RENAME TO feature_flags");
    await expect.poll(() => standing(daemon), SOON).toMatchObject(READY);
  });

  test("with --require-store it ends with exit code 3 and one clear line", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using proxy = await openTcpProxy(Number(new URL(database.url).port));
    proxy.drop();
    const args = [...argsThrough(proxy, database, scene), "--require-store"];
    const { code, log } = await failToStart({ args });
    expect(code).toBe(3);
    const told = log.filter(({ event }) => event === "stderr").map(({ line }) => line);
    expect(told).toEqual([
      expect.stringMatching(/^error: Cannot start: the store has not answered within \d+ ms$/),
    ]);
    expect(log.filter(({ event }) => event === "stdout" || event === "serving")).toEqual([]);
  });

  test("with --require-store it waits for a store that is slow to come", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using proxy = await openTcpProxy(Number(new URL(database.url).port));
    proxy.drop();
    const starting = startDaemon({
      args: [...argsThrough(proxy, database, scene), "--require-store", "true"],
    });
    await eventually(() => proxy.connectionCount > 0, { what: "the daemon calls its store" });
    proxy.restore();
    await using daemon = await starting;
    expect((await daemon.readiness()).status).toBe(200);
  });

  test("with --require-store a store that has gone back is there nevertheless, and what is newer stays in force", async ({
    expect,
  }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    const stateDir = await mkdtemp(join(tmpdir(), "pbflagd-state-"));
    try {
      const args = [...serveArgs(database.url, scene), "--state-dir", stateDir, "--require-store"];
      const first = await startDaemon({ args });
      await scene.operate((store) => store.kill("shop/1"));
      await expect
        .poll(answersTo(first, "ann"), SOON)
        .toMatchObject({ "shop/1": '{"stringValue":"daily"} KILLED' });
      expect(await first.stop()).toBe(0);
      // As if its files had been put back: the same epoch, from before the kill.
      await scene.sql(`
        SET session_replication_role = replica;
        UPDATE feature_flags.flags SET state = 'ENABLED' WHERE flag_id = 'shop/1';
        DELETE FROM feature_flags.changes WHERE revision = (SELECT max(revision) FROM feature_flags.changes)`);

      await using second = await startDaemon({ args });
      expect((await second.readiness()).status).toBe(200);
      expect(await answersTo(second, "ann")()).toMatchObject({ "shop/1": '{"stringValue":"daily"} KILLED' });
      await scene.sql("SELECT feature_flags.new_epoch()");
      await expect.poll(answersTo(second, "ann"), SOON).toMatchObject(READY.answers);
    } finally {
      await rm(stateDir, { recursive: true });
    }
  });
});

/** Everything that a daemon says of itself, and what it answers ann. */
async function standing(daemon: TestDaemon) {
  const { status, word } = await daemon.readiness();
  const ask = async (method: string, request: object) => {
    const { status, answer } = await daemon.call(method, request);
    return { status, answer: JSON.stringify(answer) };
  };
  const [killed, state, overrides] = [
    await ask("GetKilledFlags", {}),
    await ask("GetFlagState", { flagId: "shop/1" }),
    await ask("GetOverrides", { entityId: "ann" }),
  ];
  return {
    alive: (await fetch(`${daemon.url}/healthz`)).status,
    ready: `${status} ${word}`,
    grpc: ServingStatus[await servingStatus(daemon)],
    answers: await answersTo(daemon, "ann")(),
    ageIsKnown: Number.isFinite((await daemon.metric("pbflags_state_age_seconds"))[""]),
    stateCalls: [killed, state, overrides].map(({ status }) => status),
    killed: killed.answer,
  };
}

/** Alive, answering, and honest about what it does not know. */
const NOT_READY = {
  alive: 200,
  ready: "503 starting",
  grpc: "NOT_SERVING",
  answers: {
    "shop/1": '{"stringValue":"daily"} DEFAULT',
    "shop/2": '{"boolValue":true} DEFAULT',
    "shop/3": '{"int64Value":"5"} DEFAULT',
    "shop/4": '{"doubleValue":0.5} DEFAULT',
    "shop/5": '{"stringListValue":{"values":["s","m"]}} DEFAULT',
    "shop/6": " DEFAULT",
  },
  ageIsKnown: false,
  stateCalls: [503, 503, 503],
  killed: expect.stringContaining("unavailable"),
};

/** What ann is answered from memory. */
const REMEMBERED = {
  "shop/1": '{"stringValue":"never"} CACHED',
  "shop/3": '{"int64Value":"7"} CACHED',
  "shop/4": '{"doubleValue":0.5} KILLED',
  "shop/5": '{"stringListValue":{"values":["l"]}} CACHED',
};

const READY = {
  alive: 200,
  ready: "200 ready",
  grpc: "SERVING",
  answers: {
    "shop/1": '{"stringValue":"never"} OVERRIDE',
    "shop/2": '{"boolValue":true} DEFAULT',
    "shop/3": '{"int64Value":"7"} GLOBAL',
    "shop/4": '{"doubleValue":0.5} KILLED',
    "shop/5": '{"stringListValue":{"values":["l"]}} GLOBAL',
    "shop/6": " DEFAULT",
  },
  ageIsKnown: true,
  stateCalls: [200, 200, 200],
  killed: '{"flagIds":["shop/4"]}',
};

/** Arguments of a daemon whose way to its database leads through a proxy. */
function argsThrough(proxy: TcpProxy, { url }: TestDatabase, scene: Scene): readonly string[] {
  return [...serveArgs(through(proxy, url), scene), ...IMPATIENTLY];
}

async function servingStatus(daemon: TestDaemon): Promise<ServingStatus> {
  const client = createClient(Health, createGrpcTransport({ baseUrl: daemon.url }));
  return (await client.check({ service: "pbflags.v1.FlagEvaluatorService" })).status;
}
