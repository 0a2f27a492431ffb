import { inspect } from "node:util";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../../test/support/eventually.ts";
import { openPooler } from "../../test/support/pooler.ts";
import { openTestPostgres, type TestPostgres } from "../../test/support/postgres.ts";
import { openTcpProxy, type TcpProxy } from "../../test/support/tcp-proxy.ts";
import { openTlsFront } from "../../test/support/tls-front.ts";
import { systemClock } from "../system/clock.ts";
import { connectDatabase } from "./database.ts";
import { StoreError } from "./flag-store.ts";
import { openPostgresStore, type PostgresStore, type PostgresStoreOptions } from "./postgres-store.ts";

const TIMEOUT_MS = 2_000;
/** For calls that end by themselves, answered or refused, be the machine as busy as it may. */
const PATIENTLY = { fetchTimeoutMs: 20_000 };
/** A call has TIMEOUT_MS. This is how long one takes that hangs. */
const MUCH_TOO_LONG_MS = 20 * TIMEOUT_MS;

function open(url: string, options: Partial<PostgresStoreOptions> = {}): PostgresStore {
  return openPostgresStore({
    url,
    poolSize: 4,
    preparedStatements: "auto",
    fetchTimeoutMs: TIMEOUT_MS,
    clock: systemClock,
    ...options,
  });
}

function through(proxy: { readonly port: number }, url: string): string {
  return Object.assign(new URL(url), { port: String(proxy.port) }).href;
}

/** Asks everything there is to ask, several times at once. Counts what was answered; throws if one took too long. */
async function askMuch(
  store: PostgresStore,
): Promise<{ readonly answered: number; readonly failed: number }> {
  const startedAt = performance.now();
  const calls = Array.from({ length: 4 }, () => [
    store.flagStates(["a/1"]),
    store.overrides(["ann"]),
    store.kills(undefined),
    store.ping(),
  ]).flat();
  const results = await Promise.allSettled(calls);
  expect(performance.now() - startedAt).toBeLessThan(MUCH_TOO_LONG_MS);
  const failed = results.filter((result) => result.status === "rejected");
  for (const { reason } of failed) expect(reason).toBeInstanceOf(StoreError);
  return { answered: results.length - failed.length, failed: failed.length };
}

const ALL_ANSWERED = { answered: 16, failed: 0 };
const ALL_FAILED = { answered: 0, failed: 16 };

let server: TestPostgres;

beforeAll(async () => {
  server = await openTestPostgres();
});

afterAll(() => server[Symbol.asyncDispose]());

describe("a server that goes away and comes back", () => {
  test("stopped: calls fail at once, and work as soon as it runs again", async () => {
    await using store = open(server.url, PATIENTLY);
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
    await server.stop();
    expect(await askMuch(store)).toEqual(ALL_FAILED);
    await expect(store.ping()).rejects.toThrow(
      /^Cannot reach the database: 127\.0\.0\.1:\d+\/pbflagd .*ECONNREFUSED/,
    );
    await server.start();
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
  });

  test("restarted while nobody asked: the next calls do not notice", async () => {
    await using store = open(server.url, PATIENTLY);
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
    await server.stop();
    await server.start();
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
  });

  test("crashed in the middle of calls: they fail, and the next work", async () => {
    await using store = open(server.url, PATIENTLY);
    const before = askMuch(store);
    await server.kill();
    await before;
    expect(await askMuch(store)).toEqual(ALL_FAILED);
    await server.start();
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
  });

  test("frozen: calls fail in time and hold no socket; thawed: they work", async () => {
    await using proxy = await openTcpProxy(server.port);
    await using store = open(through(proxy, server.url));
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
    await server.freeze();
    try {
      expect(await askMuch(store)).toEqual(ALL_FAILED);
      await expect(store.ping()).rejects.toThrow(
        `no answer from 127.0.0.1:${proxy.port}/pbflagd within ${TIMEOUT_MS} ms`,
      );
      await eventually(() => proxy.connectionCount === 0);
    } finally {
      await server.thaw();
    }
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
    expect(proxy.connectionCount).toBeLessThanOrEqual(4);
  });

  test("frozen: disposing does not wait for it", async () => {
    await using proxy = await openTcpProxy(server.port);
    const store = open(through(proxy, server.url));
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
    await server.freeze();
    try {
      const call = store.kills(undefined);
      const startedAt = performance.now();
      await Promise.all([
        store[Symbol.asyncDispose](),
        expect(call).rejects.toThrow("the daemon is stopping"),
      ]);
      expect(performance.now() - startedAt).toBeLessThan(MUCH_TOO_LONG_MS);
      await eventually(() => proxy.connectionCount === 0);
      await expect(store.ping()).rejects.toThrow("the daemon is stopping");
    } finally {
      await server.thaw();
    }
  });
});

describe("a network that fails", () => {
  let proxy: TcpProxy;
  let store: PostgresStore;

  beforeEach(async () => {
    proxy = await openTcpProxy(server.port);
    store = open(through(proxy, server.url));
    return async () => {
      await store[Symbol.asyncDispose]();
      await eventually(() => proxy.connectionCount === 0);
      await proxy[Symbol.asyncDispose]();
    };
  });

  const faults: Readonly<Record<string, () => void>> = {
    "loses packets": () => proxy.drop(),
    "resets connections": () => proxy.cut(),
    "sends garbage": () => proxy.garble(),
    "is slower than the deadline": () => proxy.slow(TIMEOUT_MS + 50),
  };

  for (const [what, fault] of Object.entries(faults)) {
    test(`${what}: calls fail in time, and work again afterwards`, async () => {
      expect(await askMuch(store)).toEqual(ALL_ANSWERED);
      fault();
      for (let i = 0; i < 3; i++) expect(await askMuch(store)).toEqual(ALL_FAILED);
      proxy.restore();
      expect(await askMuch(store)).toEqual(ALL_ANSWERED);
      expect(proxy.connectionCount).toBeLessThanOrEqual(4);
    });

    test(`${what} from the start: the same`, async () => {
      fault();
      expect(await askMuch(store)).toEqual(ALL_FAILED);
      proxy.restore();
      expect(await askMuch(store)).toEqual(ALL_ANSWERED);
    });
  }

  test("lost every connection while nobody asked: the next calls do not notice", async () => {
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
    proxy.cut();
    proxy.restore();
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
  });

  test("is slow, but not too slow: calls are answered", async () => {
    await store.ping();
    proxy.slow(20);
    await store.kills(undefined);
    expect((await store.kills(undefined)).version).toBeDefined();
  });
});

describe("a database that is far away", () => {
  /** A session takes three ways there and back, or more, and a question one: too long for both, and time enough for one. */
  const AWAY = { oneWayMs: 100, fetchTimeoutMs: 500 };

  test.for(["plainly", "over TLS"])(
    "is reached although no call has the time to open a session: %s",
    async (how) => {
      await using proxy = await openTcpProxy(server.port);
      await using front = await openTlsFront({ port: proxy.port, certificate: "server", isAskedFor: true });
      const overTls = Object.assign(new URL(server.url), { port: front.port, search: "sslmode=no-verify" });
      proxy.slow(AWAY.oneWayMs);
      await using store = open(how === "plainly" ? through(proxy, server.url) : overTls.href, AWAY);
      await expect(store.ping()).rejects.toThrow("within 500 ms");
      const isReached = () =>
        store.kills(undefined).then(
          () => true,
          () => false,
        );
      await eventually(isReached);
      expect(proxy.connectionCount).toBeLessThanOrEqual(4);
    },
  );

  test("that refuses a session says so, although nobody waits for it by then", async () => {
    await using proxy = await openTcpProxy(server.port);
    proxy.slow(AWAY.oneWayMs);
    const wrong = Object.assign(new URL(server.url), { password: "wrong" });
    await using store = open(through(proxy, wrong.href), AWAY);
    const words = () => store.ping().catch(String);
    const refused = /within 500 ms; the last session was refused: password authentication failed/;
    await expect.poll(words, { timeout: 30_000, interval: 20 }).toMatch(refused);
  });

  test("is closed with what is being opened", async () => {
    await using proxy = await openTcpProxy(server.port);
    proxy.slow(AWAY.oneWayMs);
    {
      await using store = open(through(proxy, server.url), AWAY);
      await expect(store.ping()).rejects.toThrow("within 500 ms");
      expect(proxy.connectionCount).toBe(1);
    }
    await eventually(() => proxy.connectionCount === 0);
  });
});

describe("a database that is busy", () => {
  test("a locked table holds a call no longer than its deadline, on either side", async () => {
    await using store = open(server.url, { poolSize: 1, fetchTimeoutMs: 2 * TIMEOUT_MS });
    await store.flagStates(["a/1"]);
    await using locker = await connectDatabase({ url: server.url, applicationName: "locker" });
    await locker.query("BEGIN; LOCK TABLE feature_flags.flags");
    expect(await askMuch(store)).toMatchObject({ answered: 0 });
    await eventually(async () => {
      const { rows } = await locker.query(
        "SELECT FROM pg_stat_activity WHERE application_name = 'pbflagd' AND state = 'active'",
      );
      return rows.length === 0;
    });
    // What nobody holds is still read, on the one session there is.
    await store.overrides(["ann"]);
    await locker.query("ROLLBACK");
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
  });

  test("sessions that the server ends are replaced within the call", async () => {
    await using store = open(server.url, PATIENTLY);
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
    await using killer = await connectDatabase({ url: server.url, applicationName: "killer" });
    const ended = await killer.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pbflagd'",
    );
    expect(ended.rowCount).toBeGreaterThan(0);
    expect(await askMuch(store)).toEqual(ALL_ANSWERED);
  });
});

describe("a pooler that carries neither prepared statements nor settings", () => {
  test("is got along with, without losing a call", async () => {
    await using pooler = await openPooler(server.url);
    await using store = open(through(pooler, server.url), { ...PATIENTLY, poolSize: 2 });
    for (let i = 0; i < 10; i++) {
      const results = await Promise.all([
        store.kills(undefined),
        store.flagStates([]),
        store.overrides(["ann"]),
      ]);
      for (const { version } of results) expect(version).toBeDefined();
    }
  });

  test("is got along with from the first call if statements are not to be prepared", async () => {
    await using pooler = await openPooler(server.url);
    await using store = open(through(pooler, server.url), {
      ...PATIENTLY,
      preparedStatements: "off",
    });
    expect((await store.kills(undefined)).version).toBeDefined();
  });
});

describe("what an error says", () => {
  const password = "very+secret";

  async function errorOf(url: string): Promise<unknown> {
    try {
      await using store = open(url);
      await store.kills(undefined);
    } catch (error) {
      return error;
    }
    throw new Error(`No error for ${url}`);
  }

  const cases: readonly (readonly [string, () => string, RegExp])[] = [
    [
      "wrong password",
      () => Object.assign(new URL(server.url), { password }).href,
      /password authentication failed/,
    ],
    ["unknown host", () => `postgres://me:${password}@nowhere.invalid/db`, /nowhere\.invalid/],
    ["closed port", () => `postgres://me:${password}@127.0.0.1:1/db`, /127\.0\.0\.1:1\/db .*ECONNREFUSED/],
    [
      "unknown database",
      () => Object.assign(new URL(server.url), { pathname: "/none" }).href,
      /"none" does not exist/,
    ],
    ["no URL", () => `postgres://me:${password}@host:port/db`, /Cannot use the database URL: Invalid URL/],
  ];

  test.for(cases)("%s: the reason, and never the password", async ([, url, reason]) => {
    const error = await errorOf(url());
    expect(error).toBeInstanceOf(StoreError);
    expect(String(error)).toMatch(reason);
    const everything = inspect(error, { depth: 10, showHidden: true });
    expect(everything).not.toContain(password);
    expect(everything).not.toContain(new URL(server.url).password);
  });
});
