import { setTimeout } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { createAdminStore } from "../../src/store/admin-store.ts";
import { connectDatabase } from "../../src/store/database.ts";
import { openScene, through } from "../daemon/scene.ts";
import { startDaemon, type TestDaemon, type TestEvaluation } from "../support/daemon.ts";
import { evaluateAt } from "../support/evaluate-at.ts";
import { eventually } from "../support/eventually.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { startAt } from "../support/proxies.ts";
import { size } from "../support/size.ts";
import { findStale, findSteppedBack, type Outage, type Read, type Write } from "../support/staleness.ts";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

// Fault 16: every write and every answer is logged with its times, and looked through afterwards.

const EVENTS = size(3, 30);
const KILL_TTL_MS = 1_000;
/** A poll after the longest interval that jitter makes, the row that it says has changed, and a busy machine. */
const STALE_MS = 1.2 * KILL_TTL_MS + 500 + 1_000;
/** Silence is noticed after two heartbeats, a feed is back within five seconds, and the tier beyond it then hears of it. */
const RECOVERY_MS = 4_000 + 5_000 + STALE_MS;

const KILLED_FLAG = "shop/5";
const VALUE_FLAG = "shop/3";

describe("the check itself", () => {
  const writes: readonly Write[] = [1, 2, 3].map((n) => ({
    value: String(n),
    sentAt: n * 10_000,
    acknowledgedAt: n * 10_000 + 10,
  }));
  const read = (value: string, sentAt: number, version?: string): Read => ({
    value,
    sentAt,
    answeredAt: sentAt + 5,
    version,
  });
  const bounds = { staleMs: 2_000, recoveryMs: 1_000, outages: [] };

  test("finds what was replaced too long ago, what was not written yet, and what never was", () => {
    const reads = [
      read("1", 10_006),
      read("1", 22_000),
      read("1", 22_020),
      read("2", 19_900),
      read("2", 20_000),
      read("7", 25_000),
    ];
    expect(findStale(writes, reads, bounds)).toEqual([
      "1 at 22020: replaced 2010 ms before",
      "2 at 19900: replaced -10110 ms before",
      "7 at 25000: never written",
    ]);
  });

  test("excuses an outage, and a while after it", () => {
    const outages = [{ from: 20_000, until: 26_000 }];
    const reads = [read("1", 26_900), read("1", 27_001)];
    expect(findStale(writes, reads, { ...bounds, outages })).toHaveLength(1);
  });

  test("finds a version that went back or is missing, but for another epoch", () => {
    const versions = ["a:5", "a:5", "b:1", "a:4", undefined, "a:6"];
    expect(findSteppedBack(versions.map((version, i) => read("1", i, version)))).toEqual([
      "4 after 5 at 3",
      "no version at 4",
    ]);
  });
});

/** Asks one daemon two questions again and again, one after the other. */
class Reader {
  readonly reads = { killed: [] as Read[], value: [] as Read[] };
  readonly failures: string[] = [];
  #stopped = false;
  #running: Promise<void> = Promise.resolve();

  start(url: string): void {
    this.#stopped = false;
    this.#running = this.#read(url);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #read(url: string): Promise<void> {
    while (!this.#stopped) {
      try {
        this.reads.killed.push(
          await ask(url, KILLED_FLAG, ({ source }) => String(source.endsWith("KILLED"))),
        );
        this.reads.value.push(await ask(url, VALUE_FLAG, ({ value }) => String(value?.["int64Value"])));
      } catch (error) {
        this.failures.push(String(error));
      }
      await setTimeout(5);
    }
  }
}

async function ask(url: string, flagId: string, show: (answer: TestEvaluation) => string): Promise<Read> {
  const sentAt = performance.now();
  const { answer, version } = await evaluateAt(url, { flagId });
  return { value: show(answer), sentAt, answeredAt: performance.now(), version };
}

/** How many there were, each counted once. */
function countValues(reads: readonly Read[]): number {
  return new Set(reads.map(({ value }) => value)).size;
}

/** Writes both flags without end, and notes when. */
async function startWriting(url: string) {
  const database = await connectDatabase({ url });
  const store = createAdminStore(database, { actor: "tester" });
  const beginning = { sentAt: -Infinity, acknowledgedAt: -Infinity };
  const writes = {
    killed: [{ value: "false", ...beginning }] as Write[],
    value: [{ value: "7", ...beginning }] as Write[],
  };
  const stop = new AbortController();

  async function note(to: Write[], value: string, write: () => Promise<unknown>): Promise<void> {
    const sentAt = performance.now();
    await write();
    to.push({ value, sentAt, acknowledgedAt: performance.now() });
  }

  async function write(): Promise<void> {
    for (let n = 100; !stop.signal.aborted; n++) {
      await note(writes.value, String(n), () => store.setValue(VALUE_FLAG, String(n)));
      if (n % 10 === 0) await note(writes.killed, "true", () => store.kill(KILLED_FLAG));
      if (n % 10 === 5) await note(writes.killed, "false", () => store.revive(KILLED_FLAG));
      await setTimeout(60);
    }
  }

  const writing = write();
  return {
    writes,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await writing;
      await database[Symbol.asyncDispose]();
    },
  };
}

test(`through ${EVENTS} broken connections and restarts, every answer at three tiers was current not long before`, async () => {
  await using database = await createTestDatabase();
  await using scene = await openScene({ url: database.url });
  await using toDatabase = await openTcpProxy(Number(new URL(database.url).port));
  const settings = (source: string, address: string) => [
    ...["--descriptors", scene.descriptors, "--cache-kill-ttl", `${KILL_TTL_MS}ms`, `--${source}`, address],
    ...["--cache-flag-ttl", "1h", "--health-interval", "100ms"],
  ];
  await using root = await startDaemon({ args: settings("database", through(toDatabase, database.url)) });
  await using toRoot = await openTcpProxy(root.port);
  const middleArgs = settings("server", `http://127.0.0.1:${toRoot.port}`);
  let middle: TestDaemon = await startDaemon({ args: middleArgs });
  try {
    await using toMiddle = await openTcpProxy(middle.port);
    await using edge = await startDaemon({ args: settings("server", `http://127.0.0.1:${toMiddle.port}`) });
    for (const daemon of [root, middle, edge]) await daemon.whenReady();
    const readers = { root: new Reader(), middle: new Reader(), edge: new Reader() };
    const outages: Outage[] = [];
    const writing = await startWriting(database.url);
    readers.root.start(root.url);
    readers.middle.start(middle.url);
    readers.edge.start(edge.url);
    // Before the first trouble: while it lasts, some tiers hear of nothing.
    const haveSeenEnough = () =>
      Object.values(readers).every(({ reads }) => countValues(reads.value) > EVENTS);
    await eventually(haveSeenEnough, { what: "every tier has told of so many values" });

    const outage = async (end: () => Promise<void>) => {
      const from = performance.now();
      await end();
      outages.push({ from, until: performance.now() });
    };
    const breakWay = (way: TcpProxy, how: "cut" | "drop") =>
      outage(async () => {
        way[how]();
        await setTimeout(800);
        way.restore();
      });
    const restartMiddle = () =>
      outage(async () => {
        await readers.middle.stop();
        await middle.stop();
        middle = await startAt(middle.port, middleArgs);
        await middle.whenReady();
        readers.middle.start(middle.url);
      });
    const events = [
      () => breakWay(toRoot, "cut"),
      () => breakWay(toDatabase, "drop"),
      restartMiddle,
      () => breakWay(toMiddle, "drop"),
      () => breakWay(toDatabase, "cut"),
    ];
    for (let i = 0; i < EVENTS; i++) {
      await events[i % events.length]?.();
      // Every other trouble comes before the last one is over.
      await setTimeout(i % 2 === 0 ? 500 : size(1_000, RECOVERY_MS + 1_000));
    }
    // All of it is over once the edge has what was written last.
    await writing[Symbol.asyncDispose]();
    const last = writing.writes.value.at(-1)?.value;
    await eventually(() => readers.edge.reads.value.at(-1)?.value === last, {
      timeoutMs: 3 * RECOVERY_MS,
      what: "the edge has what was written last",
    });

    let count = 0;
    for (const [name, reader] of Object.entries(readers)) {
      await reader.stop();
      const { killed, value } = reader.reads;
      count += killed.length + value.length;
      const bounds = { staleMs: STALE_MS, recoveryMs: RECOVERY_MS, outages };
      expect(reader.failures, name).toEqual([]);
      expect(findStale(writing.writes.killed, killed, bounds), name).toEqual([]);
      expect(findStale(writing.writes.value, value, bounds), name).toEqual([]);
      expect(findSteppedBack(killed), name).toEqual([]);
      expect(findSteppedBack(value), name).toEqual([]);
      // Otherwise nothing would have been looked at.
      expect(countValues(value), name).toBeGreaterThan(EVENTS);
    }
    const { killed, value } = writing.writes;
    console.log(
      `${killed.length + value.length} writes, ${count} answers, ${outages.length} outages: all current in time`,
    );
  } finally {
    await middle[Symbol.asyncDispose]();
  }
}, 900_000);
