import { setTimeout } from "node:timers/promises";
import { connectDatabase } from "../src/store/database.ts";
import type { TestDaemon } from "../test/support/daemon.ts";
import { rawSender } from "../test/support/raw-sender.ts";
import { openFollowers, sharedNow } from "./followers.ts";
import { startChanges } from "./steady-changes.ts";
import type { ThreeTiers } from "./three-tiers.ts";

export const KILLED_FLAG = "shop/5";
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
  /** From the answer to COMMIT to the first answer that is KILLED, or is not any more, in milliseconds. */
  readonly killsMs: readonly number[];
  readonly revivesMs: readonly number[];
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

const WARM_UP_KILLS = 5;
/**
 * A root rests for 250 ms after a change and for 1,200 ms after a kill that did not wait: who measures single kills lets
 * each come to rest.
 */
const PAUSE_MIN_MS = 260;
const PAUSE_AMONG_OTHERS_MIN_MS = 1_250;
const PAUSE_SPREAD_MS = 100;
const GIVE_UP_MS = 45_000;

/** Kills and revives one flag again and again, each once the one before is in force everywhere. */
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
  const pauseMinMs = othersPerSecond === 0 ? PAUSE_MIN_MS : PAUSE_AMONG_OTHERS_MIN_MS;

  async function change(name: "kill" | "revive"): Promise<void> {
    const killed = name === "kill";
    await database.query(`SELECT feature_flags.${name}('${KILLED_FLAG}')`);
    const committedAt = sharedNow();
    const [heardAt] = await Promise.all([
      followers.whenAllKnow(killed),
      ...probes.map((probe) => probe.whenAnswering(killed, committedAt)),
    ]);
    if (killed) lastFollowerMs.push(Math.max(0, heardAt - committedAt));
    changes += 1;
    await setTimeout(pauseMinMs + Math.random() * PAUSE_SPREAD_MS);
  }

  try {
    for (let i = 0; i < WARM_UP_KILLS; i++) {
      await change("kill");
      await change("revive");
    }
    for (const probe of probes) await probe.begin();
    lastFollowerMs.length = 0;
    const changesBefore = changes + others.count;
    const startedAt = sharedNow();
    for (let i = 0; i < kills; i++) {
      await change("kill");
      await change("revive");
    }
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
  #killsMs: number[] = [];
  #revivesMs: number[] = [];
  #before: Counted = { cpuSeconds: 0, residentBytes: 0, storeCalls: 0 };

  constructor(name: string, daemon: TestDaemon) {
    this.#name = name;
    this.#daemon = daemon;
    this.#sender = rawSender(daemon.port, 1);
  }

  async begin(): Promise<void> {
    this.#killsMs = [];
    this.#revivesMs = [];
    this.#before = await this.#count();
  }

  /** Asks about every millisecond until the flag is killed, or is not. */
  async whenAnswering(killed: boolean, committedAt: number): Promise<void> {
    for (;;) {
      const { status, body } = await this.#sender.send({ flagId: KILLED_FLAG, entityId: "" });
      const tookMs = sharedNow() - committedAt;
      if (status !== 200) throw new Error(`Cannot measure: ${this.#name} answered ${status}`);
      if (body.includes("EVALUATION_SOURCE_KILLED") === killed) {
        (killed ? this.#killsMs : this.#revivesMs).push(tookMs);
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
      killsMs: this.#killsMs,
      revivesMs: this.#revivesMs,
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
