import { setTimeout } from "node:timers/promises";
import { connectDatabase } from "../src/store/database.ts";
import type { TestDaemon } from "../test/support/daemon.ts";
import { rawSender } from "../test/support/raw-sender.ts";
import { type Change, type ChangeKind, changesOf } from "./changes.ts";
import { openFollowers, sharedNow } from "./followers.ts";
import { startChanges } from "./steady-changes.ts";
import type { ThreeTiers } from "./three-tiers.ts";

const OTHER_FLAG = "shop/1";

export interface MeasureOptions {
  /** Of the database. */
  readonly url: string;
  readonly tiers: ThreeTiers;
  readonly kills: number;
  /** Streams at the edge. */
  readonly followers: number;
  /** Changes of another flag's value while it measures. */
  readonly othersPerSecond: number;
}

/** What one daemon was seen to do. */
export interface MeasuredTier {
  readonly name: string;
  /** From the answer to COMMIT to the first answer that has the change, in milliseconds. */
  readonly tookMs: Readonly<Record<ChangeKind, readonly number[]>>;
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  /** Questions to its store: the root's is Postgres, a proxy's the tier before it. */
  readonly storeCalls: number;
}

export interface Measured {
  readonly followers: number;
  readonly othersPerSecond: number;
  readonly seconds: number;
  /** Changes that were committed, those of other flags included. */
  readonly changes: number;
  readonly tiers: readonly MeasuredTier[];
  /** From the answer to COMMIT until the last follower has heard of the kill. */
  readonly lastFollowerMs: readonly number[];
}

interface Pause {
  readonly minMs: number;
  readonly spreadMs: number;
}

const WARM_UP_KILLS = 5;
/** A root rests for 250 ms after a change: who measures single ones lets each come to rest. */
const PAUSE_ALONE: Pause = { minMs: 260, spreadMs: 100 };
/** Who changes something among others knows of no rest: chance decides which is met, that of 1,200 ms after a kill too. */
const PAUSE_AMONG_OTHERS: Pause = { minMs: 300, spreadMs: 1_200 };
const GIVE_UP_MS = 45_000;

/** Kills, revives and changes again and again, each once the one before is in force everywhere. */
export async function measure(options: MeasureOptions): Promise<Measured> {
  const { url, kills, followers: followerCount, othersPerSecond } = options;
  const { root, middle, edge } = options.tiers;
  await using database = await connectDatabase({ url });
  await using followers = await openFollowers(edge.url, followerCount);
  await using others = startChanges(url, { flagIds: [OTHER_FLAG], perSecond: othersPerSecond });
  const probes = [
    new Probe("root", root),
    new Probe("one tier away", middle),
    new Probe("two tiers away", edge),
  ];
  const lastFollowerMs: number[] = [];
  let changes = 0;
  const pause = othersPerSecond === 0 ? PAUSE_ALONE : PAUSE_AMONG_OTHERS;
  let isKilled = false;

  async function commit(change: Change): Promise<void> {
    await database.query(change.sql);
    const committedAt = sharedNow();
    if (change.kind === "kill") isKilled = true;
    if (change.kind === "revive") isKilled = false;
    const [heardAt] = await Promise.all([
      followers.whenAllKnow(isKilled),
      ...probes.map((probe) => probe.whenAnswering(change, committedAt)),
    ]);
    if (change.kind === "kill") lastFollowerMs.push(Math.max(0, heardAt - committedAt));
    changes += 1;
    await setTimeout(pause.minMs + Math.random() * pause.spreadMs);
  }

  async function commitAll(n: number): Promise<void> {
    for (const change of changesOf(n)) await commit(change);
  }

  try {
    for (let i = 0; i < WARM_UP_KILLS; i++) await commitAll(i);
    for (const probe of probes) await probe.begin();
    lastFollowerMs.length = 0;
    const changesBefore = changes + others.count;
    const startedAt = sharedNow();
    for (let i = 0; i < kills; i++) await commitAll(WARM_UP_KILLS + i);
    const seconds = (sharedNow() - startedAt) / 1_000;
    const tiers = await Promise.all(probes.map((probe) => probe.result()));
    return {
      followers: followerCount,
      othersPerSecond,
      seconds,
      changes: changes + others.count - changesBefore,
      tiers,
      lastFollowerMs,
    };
  } finally {
    for (const probe of probes) probe.close();
  }
}

interface Counted {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  readonly storeCalls: number;
}

/** Asks one daemon, over one kept-alive connection. */
class Probe {
  readonly #name: string;
  readonly #daemon: TestDaemon;
  readonly #sender: ReturnType<typeof rawSender>;
  #tookMs = noTimes();
  #before: Counted = { cpuSeconds: 0, residentBytes: 0, storeCalls: 0 };

  constructor(name: string, daemon: TestDaemon) {
    this.#name = name;
    this.#daemon = daemon;
    this.#sender = rawSender(daemon.port, 1);
  }

  async begin(): Promise<void> {
    this.#tookMs = noTimes();
    this.#before = await this.#count();
  }

  /** Asks about every millisecond until the answer has the change. */
  async whenAnswering({ kind, question, isIn }: Change, committedAt: number): Promise<void> {
    for (;;) {
      const { status, body } = await this.#sender.send(question);
      const tookMs = sharedNow() - committedAt;
      if (status !== 200) throw new Error(`Cannot measure: ${this.#name} answered ${status}`);
      if (isIn(body)) {
        this.#tookMs[kind].push(tookMs);
        return;
      }
      if (tookMs > GIVE_UP_MS) throw new Error(`Cannot measure: ${this.#name} does not learn of the change`);
      await setTimeout(1);
    }
  }

  async result(): Promise<MeasuredTier> {
    const { cpuSeconds, residentBytes, storeCalls } = await this.#count();
    return {
      name: this.#name,
      tookMs: this.#tookMs,
      cpuSeconds: cpuSeconds - this.#before.cpuSeconds,
      residentBytes,
      storeCalls: storeCalls - this.#before.storeCalls,
    };
  }

  close(): void {
    this.#sender.close();
  }

  async #count(): Promise<Counted> {
    const text = await this.#daemon.metrics();
    const sum = (name: string) =>
      [...text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, "gm"))].reduce(
        (total, [, value]) => total + Number(value),
        0,
      );
    return {
      cpuSeconds: sum("process_cpu_seconds_total"),
      residentBytes: sum("process_resident_memory_bytes"),
      storeCalls: sum("pbflags_fetch_duration_seconds_count"),
    };
  }
}

function noTimes(): Record<ChangeKind, number[]> {
  return { kill: [], revive: [], value: [], override: [] };
}
