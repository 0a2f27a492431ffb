import { chmod } from "node:fs/promises";
import type { Config } from "../config/settings.ts";
import type { DaemonDeps } from "../daemon/deps.ts";
import { type Daemon, openDaemon } from "../daemon.ts";
import { listenOn } from "../server/listener/open-listener.ts";
import { Opened } from "../system/opened.ts";
import { renderTogether } from "../telemetry/add-up.ts";
import { Crew, type CrewMember } from "./crew.ts";
import { Distribution, type Taker } from "./distribution.ts";
import { launchWorker } from "./launch-worker.ts";
import { withLevelTold } from "./loggers.ts";
import { knowsOf, type Told } from "./messages.ts";
import { choosePrivateSocket } from "./private-socket.ts";
import { toPrimaryConfig, toPrivateLimits } from "./worker-config.ts";

export interface PrimaryOptions {
  /** How many workers: above 1. */
  readonly count: number;
  /** The path of the program's entry, which is started for each. */
  readonly main: string;
  /** Of this process. */
  readonly pid: number;
}

/** A daemon of several processes. Disposing of it drains all of them. */
export type Primary = Pick<
  Daemon,
  "address" | "namespace" | "reloadDescriptors" | "reloadConfig" | "keepLast"
> &
  AsyncDisposable;

/** Between two words to the workers on how the primary is doing. */
const TELL_MS = 500;
/** Between two counts without a scrape: a worker that is lost takes with it what it counted since. */
const COUNT_MS = 5_000;
/** For handing over the last connections. */
const SETTLE_MAX_MS = 1_000;
/** Beside the time that requests are given at the end. */
const END_MS = 5_000;

/**
 * Opens a daemon that knows the store, listens, and hands every connection to one of its workers: processes that answer
 * with what it knows. Resolves once one of them takes connections, or the process is asked to end.
 *
 * @throws what `openDaemon` throws
 */
export async function openPrimary(
  config: Config,
  deps: DaemonDeps,
  { count, main, pid }: PrimaryOptions,
): Promise<Primary> {
  const { clock, random, runtimeFolder, stopping } = deps;
  const opened = new Opened();
  try {
    const socket = await choosePrivateSocket({ stateDir: config.stateDir, runtimeFolder, pid, random });
    const logger = withLevelTold(deps.logger, (level) => crew?.broadcast({ kind: "log_level", level }));
    let crew: Crew | undefined;
    const daemon = opened.add(
      await openDaemon(toPrimaryConfig(config, socket), {
        ...deps,
        logger,
        part: { kind: "primary", limits: toPrivateLimits(config.limits) },
      }),
    );
    await chmod(socket, 0o600);

    const onDrop = (reason: "too_many_connections" | "not_accepted") => {
      daemon.metrics.recordConnectionDropped(reason);
      logger.warn("connection_dropped", { reason });
    };
    const distribution = new Distribution({ connectionsMax: config.limits.connectionsMax, onDrop });
    opened.defer(() => distribution.close());
    const listener = opened.add(
      await listenOn({ address: config.listen, connectionsMax: Infinity, isForOthers: true, clock, onDrop })(
        (connection) => distribution.accept(connection),
      ),
    );

    const takers = new WeakMap<CrewMember, Taker>();
    const firstOpen = new AbortController();
    const members = new Crew({
      count,
      launch: (worker) => launchWorker(main, worker),
      start: () => ({
        config,
        logLevel: logger.level,
        address: listener.address,
        socket,
        told: tellOf(daemon),
      }),
      onOpen(member) {
        const taker = toTaker(member);
        takers.set(member, taker);
        distribution.join(taker);
        firstOpen.abort();
      },
      onMessage(member, message) {
        const taker = takers.get(member);
        if (message.kind === "scrape") void answerScrape(member, message.id);
        else if (taker === undefined) return;
        else if (message.kind === "accepted") distribution.accepted(taker, message.id);
        else if (message.kind === "closed") distribution.closed(taker);
      },
      onGone(member) {
        const taker = takers.get(member);
        if (taker !== undefined) distribution.leave(taker);
      },
      logger,
      clock,
      random,
    });
    crew = members;

    async function answerScrape({ child }: CrewMember, id: number): Promise<void> {
      try {
        const { workers, gone } = await members.count();
        const metrics = await renderTogether({ primary: await daemon.metrics.collect(), workers, gone });
        child.send({ kind: "scraped", id, metrics });
      } catch (error) {
        logger.error("internal_error", { where: "/metrics", err: error });
      }
    }

    const ending = new AbortController();
    const every = async (ms: number, act: () => unknown) => {
      while (!ending.signal.aborted) {
        await clock.sleep(ms, ending.signal).catch(() => {});
        await act();
      }
    };
    const loops = [
      every(TELL_MS, () => members.broadcast({ kind: "told", told: tellOf(daemon) })),
      every(COUNT_MS, () => members.count()),
    ];
    opened.defer(async () => {
      members.stop();
      await listener.stop();
      const settled = new AbortController();
      void distribution.settled().then(() => settled.abort());
      await clock.sleep(SETTLE_MAX_MS, settled.signal).catch(() => {});
      members.broadcast({ kind: "no_more_connections" });
      await members.ended(config.shutdownTimeoutMs + END_MS);
      ending.abort();
      await Promise.all(loops);
    });
    await either(firstOpen.signal, stopping);

    return {
      address: listener.address,
      namespace: daemon.namespace,
      reloadDescriptors: (options) => daemon.reloadDescriptors(options),
      reloadConfig: () => daemon.reloadConfig(),
      keepLast: () => daemon.keepLast(),
      [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
    };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

function toTaker({ child }: CrewMember): Taker {
  return { take: (id, socket) => child.send({ kind: "connection", id }, socket) };
}

function tellOf({ namespace, checks }: Pick<Daemon, "namespace" | "checks">): Told {
  const { status, failuresInARow, msSinceSuccess } = namespace.health;
  return { health: { status, failuresInARow, msSinceSuccess }, checks, knows: knowsOf(namespace) };
}

/** Resolves when one of them aborts. */
function either(one: AbortSignal, other: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of [one, other]) {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    }
  });
}
