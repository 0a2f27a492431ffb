import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout } from "node:timers/promises";
import { WatchService } from "../src/gen/pbflagd/v1/watch_pb.ts";
import { systemClock } from "../src/system/clock.ts";
import { openTransport } from "../src/upstream/transport/open-transport.ts";
import { eventually } from "../test/support/eventually.ts";
import { upstreamSettings } from "../test/support/fake-upstream.ts";

/** All who follow now know this of the flag. `at` is in milliseconds since 1970, with fractions. */
interface Word {
  readonly killed: boolean;
  readonly at: number;
}

/** Followers of one daemon, in a process of their own. */
export interface Followers extends AsyncDisposable {
  /** When the last of them heard it, in milliseconds since 1970. */
  whenAllKnow(killed: boolean): Promise<number>;
}

/** The clock that this process and that of the followers share, finer than a millisecond. */
export function sharedNow(): number {
  return performance.timeOrigin + performance.now();
}

/** Starts the process of the followers, and resolves once each has heard its first event. */
export async function openFollowers(url: string, count: number): Promise<Followers> {
  if (count === 0) return { whenAllKnow: async () => sharedNow(), [Symbol.asyncDispose]: async () => {} };
  const child = fork(process.argv[1] ?? "", ["--follow", url, "--followers", String(count)]);
  const exited = once(child, "exit");
  let word: Word | undefined;
  child.on("message", (message) => {
    if (isWord(message)) word = message;
  });
  const whenAllKnow = async (killed: boolean) => {
    await eventually(() => word?.killed === killed || hasEnded(child), {
      timeoutMs: 30_000,
      what: `all ${count} followers know`,
    });
    if (word?.killed !== killed) throw new Error("Cannot measure: the followers have ended");
    return word.at;
  };
  await whenAllKnow(false);
  return {
    whenAllKnow,
    async [Symbol.asyncDispose]() {
      child.kill();
      await exited;
    },
  };
}

function isWord(message: unknown): message is Word {
  return typeof message === "object" && message !== null && "killed" in message && "at" in message;
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** What the process of the followers does until it is killed: as many streams, each on a connection of its own. */
export async function followMany(url: string, count: number, flagId: string): Promise<void> {
  const known = new Map<number, boolean>();
  let killedCount = 0;
  let told: boolean | undefined;

  function learn(follower: number, killed: boolean): void {
    if (known.get(follower) === true) killedCount -= 1;
    if (killed) killedCount += 1;
    known.set(follower, killed);
    const isUnanimous = known.size === count && (killedCount === 0 || killedCount === count);
    if (!isUnanimous || told === killed) return;
    told = killed;
    process.send?.({ killed, at: sharedNow() } satisfies Word);
  }

  async function follow(follower: number): Promise<void> {
    const settings = upstreamSettings({ name: "edge", url });
    await using transport = openTransport({ settings, clock: systemClock });
    for await (const { event } of transport.stream(
      WatchService.method.watch,
      {},
      new AbortController().signal,
    )) {
      const kills = event.case === "heartbeat" ? undefined : event.value?.kills;
      if (kills !== undefined) learn(follower, kills.flagIds.includes(flagId));
    }
    throw new Error("Cannot follow: the stream has ended");
  }

  const following: Promise<void>[] = [];
  for (let i = 0; i < count; i++) {
    following.push(follow(i));
    if (i % 20 === 19) await setTimeout(20);
  }
  await Promise.all(following);
}
