import { setImmediate } from "node:timers/promises";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { eventually } from "../../test/support/eventually.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { openPooler } from "../../test/support/pooler.ts";
import { createTestDatabase, type TestDatabase } from "../../test/support/postgres.ts";
import { openTcpProxy } from "../../test/support/tcp-proxy.ts";
import { openTlsFront } from "../../test/support/tls-front.ts";
import { formatVersion } from "../evaluation/version.ts";
import { connectDatabase, type Database } from "../store/database.ts";
import { StoreError } from "../store/flag-store.ts";
import { migrate } from "../store/migrate.ts";
import { openPostgresConnection } from "../store/postgres-connection.ts";
import { systemClock } from "../system/clock.ts";
import type { ChangeNotice, FeedState } from "./change-feed.ts";
import { openPostgresFeed } from "./postgres-feed.ts";

/** Notices that anybody may send in one transaction. */
const FLOOD = 100_000;

let target: TestDatabase;
let database: Database;

async function prepare(migrated: boolean): Promise<void> {
  target = await createTestDatabase({ migrated });
  database = await connectDatabase({ url: target.url });
}

afterEach(async () => {
  await database[Symbol.asyncDispose]();
  await target[Symbol.asyncDispose]();
});

/** A feed whose clock the test turns. */
function openFeed(url = target.url) {
  const clock = new FakeClock();
  const notices: ChangeNotice[] = [];
  const told: FeedState[] = [];
  let resyncs = 0;
  const feed = openPostgresFeed({
    url,
    clock,
    random: () => 0.5,
    onNotice(notice) {
      // The one that comes with each connection is counted by itself.
      const connections = told.filter(({ kind }) => kind === "connected").length;
      if (connections > resyncs && notice.version === undefined) resyncs += 1;
      else notices.push(notice);
    },
    onStateChange: (state) => told.push(state),
  });
  return {
    clock,
    notices,
    told,
    get resyncs() {
      return resyncs;
    },
    get state() {
      return feed.state;
    },
    get reason() {
      return feed.state.kind === "broken" ? feed.state.reason : undefined;
    },
    heard: (count: number) =>
      eventually(() => notices.length >= count, { what: `${count} notices, got ${notices.length}` }),
    broken: () => eventually(() => feed.state.kind === "broken"),
    /** Turns the clock to each next try until one succeeds. */
    connected: () =>
      eventually(async () => {
        const { state } = feed;
        if (state.kind === "broken" && state.retryAt > clock.now())
          await clock.advance(state.retryAt - clock.now());
        return state.kind === "connected";
      }),
    /** Turns the clock through so many tries in vain; gives how long each wait was. */
    async fail(times: number): Promise<readonly number[]> {
      const delays: number[] = [];
      while (delays.length < times) {
        const now = clock.now();
        const retryAt = () => (feed.state.kind === "broken" ? feed.state.retryAt : now);
        await eventually(() => retryAt() > now);
        delays.push(retryAt() - now);
        await clock.advance(retryAt() - now);
      }
      return delays;
    },
    [Symbol.asyncDispose]: () => feed[Symbol.asyncDispose](),
  };
}

async function sessions(): Promise<readonly { readonly pid: number; readonly asked: string }[]> {
  const { rows } = await database.query<{ pid: number; asked: string }>(
    `SELECT pid, query_start::text AS asked FROM pg_stat_activity
     WHERE application_name = 'pbflagd listen' AND datname = current_database() AND state = 'idle'`,
  );
  return rows;
}

async function versionNow(asked = database): Promise<string> {
  const { rows } = await asked.query<{ version: string }>("SELECT feature_flags.version() AS version");
  return rows[0]?.version ?? "";
}

function versionsOf(notices: readonly ChangeNotice[]): readonly string[] {
  return notices.map(({ version }) => (version === undefined ? "none" : formatVersion(version)));
}

function through(proxy: { readonly port: number }): string {
  return Object.assign(new URL(target.url), { port: String(proxy.port) }).href;
}

describe("a migrated database", () => {
  beforeEach(async () => {
    await prepare(true);
    await database.query(`
      INSERT INTO feature_flags.features (feature_id) VALUES ('a');
      INSERT INTO feature_flags.flags (flag_id, feature_id, field_number, flag_type)
        SELECT 'a/' || n, 'a', n, 'BOOL' FROM generate_series(1, 3) AS n`);
  });

  test("each change is announced with the version that it made, and the first state is read anew", async () => {
    await using feed = openFeed();
    await feed.connected();
    expect(feed.resyncs).toBe(1);
    const made: string[] = [];
    for (const change of [
      "SELECT feature_flags.kill('a/1')",
      "SELECT feature_flags.revive('a/1')",
      "UPDATE feature_flags.flags SET state = 'KILLED'",
      "INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, state) VALUES ('a/1', 'ann', 'ENABLED')",
      "TRUNCATE feature_flags.flag_overrides",
    ]) {
      await database.query(change);
      made.push(await versionNow());
      await feed.heard(made.length);
    }
    expect(versionsOf(feed.notices)).toEqual(made);
    expect(feed.resyncs).toBe(1);
  });

  test("a notice says whether kills are among what changed, or the end of one", async () => {
    await using feed = openFeed();
    await feed.connected();
    const override = "INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, state) VALUES";
    const changes: readonly (readonly [string, boolean])[] = [
      ["SELECT feature_flags.kill('a/1')", true],
      ["SELECT feature_flags.kill('a/1')", false],
      [
        "BEGIN; SELECT feature_flags.set_value('a/2', 'true'); SELECT feature_flags.revive('a/1'); COMMIT",
        true,
      ],
      ["SELECT feature_flags.set_value('a/2', 'false')", false],
      ["UPDATE feature_flags.flags SET state = 'KILLED'", true],
      ["SELECT feature_flags.set_value('a/2', 'true')", false],
      [`${override} ('a/1', 'ann', 'KILLED')`, true],
      [`${override} ('a/1', 'bob', 'ENABLED')`, false],
      ["UPDATE feature_flags.flag_overrides SET state = 'ENABLED' WHERE entity_id = 'ann'", true],
      ["UPDATE feature_flags.flag_overrides SET state = 'KILLED' WHERE entity_id = 'ann'", true],
      ["DELETE FROM feature_flags.flag_overrides WHERE entity_id = 'bob'", false],
      ["DELETE FROM feature_flags.flag_overrides", true],
      ["BEGIN; SELECT feature_flags.revive('a/1'); ROLLBACK", false],
      ["SELECT feature_flags.set_value('a/3', 'true')", false],
    ];
    const urgent: boolean[] = [];
    for (const [change, isUrgent] of changes) {
      const before = await versionNow();
      await database.query(change);
      // Killing what is killed changes nothing, and so does what is rolled back.
      if ((await versionNow()) !== before) urgent.push(isUrgent);
      await feed.heard(urgent.length);
    }
    expect(urgent).toHaveLength(changes.length - 2);
    expect(feed.notices.map(({ isUrgent }) => isUrgent)).toEqual(urgent);
  });

  test("nothing is heard of a transaction before its commit, and never of one that rolls back", async () => {
    await using feed = openFeed();
    await feed.connected();
    await using other = await connectDatabase({ url: target.url });
    await database.query("BEGIN; SELECT feature_flags.kill('a/1')");
    await other.query("SELECT feature_flags.kill('a/2')");
    await feed.heard(1);
    expect(versionsOf(feed.notices)).toEqual([await versionNow(other)]);
    await database.query("ROLLBACK; SELECT feature_flags.kill('a/3')");
    await feed.heard(2);
    expect(versionsOf(feed.notices).slice(1)).toEqual([await versionNow()]);
  });

  test("of a thousand commits in one burst the newest that has come is told, and the last in the end", async () => {
    await using feed = openFeed();
    await feed.connected();
    await database.query(`
      DO $$ BEGIN
        FOR i IN 1..500 LOOP
          UPDATE feature_flags.flags SET state = 'KILLED' WHERE flag_id = 'a/1'; COMMIT;
          UPDATE feature_flags.flags SET state = 'ENABLED' WHERE flag_id = 'a/1'; COMMIT;
        END LOOP;
      END $$`);
    const last = await versionNow();
    await eventually(() => versionsOf(feed.notices).at(-1) === last);
    const revisions = feed.notices.map(({ version }) => version?.revision ?? Number.NaN);
    expect(revisions).toEqual(revisions.toSorted((a, b) => a - b));
    expect(revisions.length).toBeLessThanOrEqual(1_000);
  });

  test("a flood of nonsense is hardly read, and what is announced after it is told", async () => {
    const parse = vi.spyOn(JSON, "parse");
    onTestFinished(() => parse.mockRestore());
    await using feed = openFeed();
    await feed.connected();
    for (const [nonsense, parsesMax] of [
      ["'look ' || n", 0],
      ["'{' || n || '}'", FLOOD / 20],
    ] as const) {
      parse.mockClear();
      feed.notices.length = 0;
      const many = `generate_series(1, ${FLOOD}) AS n`;
      await database.query(`SELECT pg_notify('feature_flags_changed', ${nonsense}) FROM ${many}`);
      // Notices come in the order of commits.
      await database.query("SELECT feature_flags.kill('a/1'), feature_flags.revive('a/1')");
      const last = await versionNow();
      await eventually(() => versionsOf(feed.notices).at(-1) === last, { timeoutMs: 30_000 });
      expect(parse.mock.calls.length).toBeLessThanOrEqual(parsesMax + 1);
      expect(feed.notices.length).toBeGreaterThan(0);
      expect(feed.notices.length).toBeLessThan(FLOOD / 20);
    }
    expect(feed.told.map(({ kind }) => kind)).toEqual(["connected"]);
  }, 60_000);

  test.each(["plainly", "over TLS"])(
    "a flood leaves turns to others: so many notices are read in one, and no more: %s",
    async (how) => {
      const { port } = new URL(target.url);
      await using front = await openTlsFront({ port: Number(port), certificate: "server", isAskedFor: true });
      const overTls = Object.assign(new URL(target.url), { port: front.port, search: "sslmode=no-verify" });
      const heard = { ever: 0, thisTurn: 0 };
      let most = 0;
      const { signal } = new AbortController();
      const listening = await openPostgresConnection(
        {
          url: how === "plainly" ? target.url : overTls.href,
          statementTimeoutMs: undefined,
          silenceMs: 20_000,
          clock: systemClock,
          onNotification() {
            heard.ever += 1;
            heard.thisTurn += 1;
          },
        },
        signal,
      );
      onTestFinished(() => listening.close());
      await listening.query({ text: "LISTEN feature_flags_changed", values: [], name: undefined }, signal);
      const many = `generate_series(1, ${FLOOD}) AS n`;
      const flooding = database.query(`SELECT pg_notify('feature_flags_changed', n::text) FROM ${many}`);
      while (heard.ever < FLOOD) {
        most = Math.max(most, heard.thisTurn);
        heard.thisTurn = 0;
        await setImmediate();
      }
      // And the rest of a piece that was read already.
      await flooding;
      expect(most).toBeLessThan(4_000);
    },
    60_000,
  );

  test("what others send on the channel is a notice without a version, and other channels are none", async () => {
    await using feed = openFeed();
    await feed.connected();
    await database.query("SELECT pg_notify('elsewhere', 'x'), pg_notify('feature_flags_changed', 'look')");
    await feed.heard(1);
    await database.query("NOTIFY feature_flags_changed");
    await feed.heard(2);
    expect(versionsOf(feed.notices)).toEqual(["none", "none"]);
    expect(feed.state.kind).toBe("connected");
  });

  test("it takes one session, under its own name, and leaves none behind", async () => {
    const feed = openFeed();
    await feed.connected();
    expect(await sessions()).toHaveLength(1);
    await feed[Symbol.asyncDispose]();
    await eventually(async () => (await sessions()).length === 0);
    expect(feed.clock.sleeperCount).toBe(0);
    expect(feed.told.map(({ kind }) => kind)).toEqual(["connected"]);
  });

  test("a session that the server ends is replaced soon, and everything is read anew", async () => {
    await using feed = openFeed();
    await feed.connected();
    const [before] = await sessions();
    await database.query("SELECT pg_terminate_backend($1)", [before?.pid]);
    await feed.broken();
    expect(feed.reason).toMatch(/^Cannot listen at .*: terminating connection due to administrator command$/);
    await database.query("SELECT feature_flags.kill('a/1')");
    await feed.clock.advance(200);
    await eventually(() => feed.state.kind === "connected");
    expect(feed.resyncs).toBe(2);
    expect(feed.notices).toEqual([]);
    await database.query("SELECT feature_flags.kill('a/2')");
    await feed.heard(1);
    expect(versionsOf(feed.notices)).toEqual([await versionNow()]);
  });

  test("a session that answers its heartbeats is kept", async () => {
    await using feed = openFeed();
    await feed.connected();
    const [first] = await sessions();
    let asked = first?.asked;
    for (let i = 0; i < 3; i++) {
      const before = asked;
      await feed.clock.advance(2_000);
      await eventually(async () => {
        [{ asked } = { asked: before }] = await sessions();
        return asked !== before;
      });
    }
    expect((await sessions()).map(({ pid }) => pid)).toEqual([first?.pid]);
    expect(feed.state).toEqual({ kind: "connected", since: 0 });
    expect(feed.resyncs).toBe(1);
  });

  test("a network that loses everything is noticed in less than five seconds, and its return too", async () => {
    await using proxy = await openTcpProxy(Number(new URL(target.url).port));
    await using feed = openFeed(through(proxy));
    await feed.connected();
    proxy.drop();
    await database.query("SELECT feature_flags.kill('a/1')");
    await feed.clock.advance(4_000);
    expect(feed.reason).toMatch(/no answer within 2000 ms$/);
    // New connections are accepted, and hear nothing either.
    await feed.clock.advance(60_000);
    expect(feed.state.kind).toBe("broken");
    expect(feed.told.map(({ kind }) => kind)).toEqual(["connected", "broken"]);
    expect(proxy.connectionCount).toBeLessThanOrEqual(1);

    proxy.restore();
    const restoredAt = feed.clock.now();
    await feed.connected();
    expect(feed.clock.now() - restoredAt).toBeLessThanOrEqual(2_000 + 5_000);
    expect(feed.resyncs).toBe(2);
    await database.query("SELECT feature_flags.kill('a/2')");
    await feed.heard(1);
    expect(versionsOf(feed.notices)).toEqual([await versionNow()]);
  });

  test("nonsense and resets end a session, not the feed", async () => {
    await using proxy = await openTcpProxy(Number(new URL(target.url).port));
    await using feed = openFeed(through(proxy));
    for (const fault of [() => proxy.garble(), () => proxy.cut()]) {
      await feed.connected();
      fault();
      // Nonsense may look like the beginning of something: then the heartbeat notices.
      await feed.clock.advance(4_000);
      await feed.broken();
      proxy.restore();
    }
    await feed.connected();
    expect(feed.resyncs).toBe(3);
  });

  test("disposing does not wait for a server that is silent, and leaves no socket behind", async () => {
    await using proxy = await openTcpProxy(Number(new URL(target.url).port));
    const idle = openFeed(through(proxy));
    await idle.connected();
    proxy.drop();
    const connecting = openFeed(through(proxy));
    const asking = idle.clock.advance(2_000);
    await eventually(() => proxy.connectionCount === 2);
    await asking;
    await Promise.all([idle[Symbol.asyncDispose](), connecting[Symbol.asyncDispose]()]);
    expect(idle.clock.sleeperCount + connecting.clock.sleeperCount).toBe(0);
    await eventually(() => proxy.connectionCount === 0);
  });

  test("a schema that is taken away is noticed by the heartbeat", async () => {
    await using feed = openFeed();
    await feed.connected();
    await database.query("DROP SCHEMA feature_flags CASCADE");
    await feed.clock.advance(2_000);
    await feed.broken();
    expect(feed.reason).toMatch(/announces no changes, run `pbflagd migrate`$/);
    await migrate(database);
    await feed.connected();
    expect(feed.resyncs).toBe(2);
  });

  test("a pooler that shares out sessions is told, with what to do about it, and not taken for a way to listen", async () => {
    await using pooler = await openPooler(target.url);
    await using feed = openFeed(through(pooler));
    await feed.broken();
    expect(feed.reason).toMatch(/a pooler shares out the session, set `database_listen`/);
    expect(feed.resyncs).toBe(0);
  });

  test("needs no right but to connect; without it says so once, and listens when it is granted", async () => {
    const name = new URL(target.url).pathname.slice(1);
    const role = `listener_${name}`;
    await database.query(`
      CREATE ROLE ${role} LOGIN PASSWORD 'secret';
      ALTER ROLE ${role} SET default_transaction_read_only = on;
      REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC;
      GRANT USAGE ON SCHEMA feature_flags TO ${role}`);
    try {
      await using feed = openFeed(
        Object.assign(new URL(target.url), { username: role, password: "secret" }).href,
      );
      await feed.fail(5);
      expect(feed.reason).toMatch(/permission denied for database/);
      expect(feed.told).toHaveLength(1);
      await database.query(`GRANT CONNECT ON DATABASE ${name} TO ${role}`);
      await feed.connected();
      await database.query("SELECT feature_flags.kill('a/1')");
      await feed.heard(1);
    } finally {
      await database.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });
});

test("a database without our additions is told once, and listened to as soon as it is migrated", async () => {
  await prepare(false);
  await using feed = openFeed();
  const delays = await feed.fail(8);
  expect(Math.max(...delays)).toBeLessThanOrEqual(5_000);
  expect(delays.at(-1)).toBeGreaterThan(2_000);
  expect(feed.told).toHaveLength(1);
  expect(feed.reason).toMatch(/the database announces no changes, run `pbflagd migrate`$/);
  expect(feed.resyncs).toBe(0);
  await migrate(database);
  await feed.connected();
  expect(feed.resyncs).toBe(1);
});

test("what it says never holds the password", async () => {
  await prepare(true);
  const wrong = Object.assign(new URL(target.url), { password: "very+secret" });
  const away = Object.assign(new URL(wrong), { port: "1" });
  for (const [url, reason] of [
    [wrong, /^Cannot listen at 127\.0\.0\.1:\d+\/test_\w+: password authentication failed/],
    [away, /^Cannot listen at 127\.0\.0\.1:1\/test_\w+: .*ECONNREFUSED/],
  ] as const) {
    await using feed = openFeed(url.href);
    await feed.broken();
    expect(feed.reason).toMatch(reason);
    expect(inspect(feed.told, { depth: 10 })).not.toContain("secret");
  }
  const unusable = () => openFeed("postgres://me:very+secret@host:port/db");
  expect(unusable).toThrow(StoreError);
  expect(unusable).toThrow(/^Cannot use the database URL: Invalid URL, got one that is not shown here$/);
});
