import { Socket } from "node:net";
import { availableParallelism, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { isatty } from "node:tty";
import { run } from "./cli/program.ts";
import type { ConfigSource } from "./config/load-config.ts";
import type { Config } from "./config/settings.ts";
import type { DaemonDeps } from "./daemon/deps.ts";
import type { Daemon } from "./daemon.ts";
import { readyWithin } from "./namespaces/readiness.ts";
import { systemClock as clock } from "./system/clock.ts";
import { startLean } from "./system/lean-start.ts";
import { Opened } from "./system/opened.ts";
import { readOwnVersion } from "./system/own-version.ts";
import type { LogFields, Logger } from "./telemetry/logger.ts";
import {
  type Channel,
  isToWorker,
  type ToPrimary,
  type ToWorker,
  WORKER_COMMAND,
} from "./workers/messages.ts";
import type { Primary } from "./workers/open-primary.ts";
import type { PrimaryLink } from "./workers/primary-link.ts";

/** A terminal's Ctrl-C reaches us directly and again through npm: so soon after, it is the same one. */
const SAME_SIGNAL_MS = 300;
const TRACES_CLOSE_MS = 2_000;
/** How long a start that never becomes ready counts as one. */
const START_MAX_MS = 10_000;

const version = readOwnVersion();
const userName = readUserName();
const stop = new AbortController();
/** What SIGHUP asks for, once there is a daemon to ask. */
let reload: (() => void) | undefined;
/** What an unexpected end waits for, once there is something to keep. */
let keepLast: (() => Promise<void>) | undefined;

for (const stream of [process.stdout, process.stderr]) stream.on("error", endWithReader);
void main();

async function main(): Promise<void> {
  const isWorker = process.connected && process.argv[2] === WORKER_COMMAND;
  process.exitCode = await (isWorker ? work() : runCommand());
  // All is closed. OpenTelemetry's SDK cannot be told to give up an export: a collector that hangs would hold up the end.
  if (isDaemon()) process.exit();
}

function runCommand(): Promise<number> {
  return run(process.argv.slice(2), {
    stdout: (text) => void process.stdout.write(text),
    stderr: (text) => void process.stderr.write(text),
    // Opened only where it is read.
    get stdin() {
      return process.stdin;
    },
    env: process.env,
    isTerminal: isatty(process.stdout.fd),
    columns: process.stdout.columns ?? 100,
    userName,
    version,
    clock,
    interrupted() {
      const end = new AbortController();
      process.once("SIGINT", () => end.abort());
      return end.signal;
    },
    serve: (config, warnings, source) => serve({ config, warnings, source }),
    dev,
  });
}

interface Serving {
  readonly config: Config;
  readonly warnings: readonly string[];
  /** For reloads. Undefined: it cannot be had again. */
  readonly source: ConfigSource | undefined;
  readonly onServing?: (daemon: Pick<Daemon, "address">) => void;
}

/** Runs a daemon until a signal stops it; resolves with the exit code. */
async function serve({ config, warnings, source, onServing }: Serving): Promise<number> {
  const stopping = listenForStop();
  const started = startLean();
  const logger = await openLog(config);
  for (const warning of warnings) logger.warn("configuration_doubtful", { msg: warning });
  await using opened = new Opened();
  const workers = config.workers === "auto" ? availableParallelism() : config.workers;
  const [open, outside] = await Promise.all([loadOpener(workers), openOutside(logger, opened)]);
  const daemon = opened.add(await open(config, { ...outside, stopping, configSource: source }));
  keepLast = () => daemon.keepLast();
  // Whatever comes of it is reported by those who follow them.
  reload = () => {
    void daemon.reloadDescriptors();
    void daemon.reloadConfig();
  };
  logger.info("serving", {
    address: daemon.address,
    version,
    pid: process.pid,
    ...(workers === 1 ? {} : { workers }),
  });
  onServing?.(daemon);
  void readyWithin(START_MAX_MS, daemon.namespace, { clock, signal: stopping }).then(started);
  await aborted(stopping);
  logger.info("stopping", { reason: stopping.reason });
  return 0;
}

type OpenServed = (config: Config, deps: DaemonDeps) => Promise<Daemon | Primary>;

/** How to open a daemon of so many processes that answer. */
async function loadOpener(workers: number): Promise<OpenServed> {
  if (workers === 1) return (await import("./daemon.ts")).openDaemon;
  const { openPrimary } = await import("./workers/open-primary.ts");
  const [, main = ""] = process.argv;
  return (config, deps) => openPrimary(config, deps, { count: workers, main, pid: process.pid });
}

/** One of several processes that answer for a daemon; resolves with the exit code when its primary has it end. */
async function work(): Promise<number> {
  // A terminal's Ctrl-C reaches every process; what is to be done, the primary says.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});
  const lost = new AbortController();
  const started = startLean();
  const onDisconnect = () => {
    // The primary has not waited for it: somebody is in a hurry.
    if (link?.stopping.aborted === true) process.exit(1);
    lost.abort();
  };
  process.once("disconnect", onDisconnect);
  let link: PrimaryLink | undefined;
  const primaryLink = await import("./workers/primary-link.ts");
  link = new primaryLink.PrimaryLink({ channel: toPrimary(), lost: lost.signal, clock });
  const start = await link.start.catch(() => undefined);
  if (start === undefined) return 1;
  const { config, logLevel, worker } = start;
  const logger = await openLog({ ...config, logLevel }, { worker });
  link.onLogLevel = (level) => void (logger.level = level);
  await using opened = new Opened();
  // Last of all: the channel would keep the process alive.
  opened.defer(() => {
    process.off("disconnect", onDisconnect);
    if (process.connected) process.disconnect();
  });
  const { openWorker } = await import("./workers/open-worker.ts");
  opened.add(await openWorker(link, await openOutside(logger, opened)));
  started();
  await aborted(link.stopping);
  if (lost.signal.aborted) logger.error("primary_lost", { msg: "ending: nobody tells of changes any more" });
  return 0;
}

/** A worker's way to its primary. */
function toPrimary(): Channel<ToWorker, ToPrimary> {
  return {
    send: (message) => void process.send?.(message, undefined, undefined, () => {}),
    receive(listener) {
      process.on("message", (message, handle) => {
        if (isToWorker(message)) listener(message, handle instanceof Socket ? handle : undefined);
      });
    },
  };
}

/** The outside world for whatever this process serves. */
async function openOutside(logger: Logger, opened: Opened) {
  const { openTracing } = await import("./telemetry/tracing.ts");
  const tracing = await openTracing({
    env: process.env,
    serviceVersion: version,
    closeTimeoutMs: TRACES_CLOSE_MS,
    onProblem: (message) => logger.warn("tracing_failed", { msg: message }),
    clock,
  });
  if (tracing !== undefined) opened.add(tracing);
  return {
    version,
    clock,
    random: Math.random,
    logger,
    tracing,
    env: process.env,
    runtimeFolder: join(tmpdir(), `pbflagd-${process.getuid?.() ?? "user"}`),
  };
}

/** Serves with a database of its own and the example flags. */
async function dev(config: Config, warnings: readonly string[]): Promise<number> {
  const stopping = listenForStop();
  const logger = await openLog(config);
  const [{ openDevelopment }, { renderBanner }] = await Promise.all([
    import("./development/development.ts"),
    import("./development/banner.ts"),
  ]);
  await using development = await openDevelopment(config, {
    clock,
    logger,
    searchPath: process.env["PATH"] ?? "",
    pid: process.pid,
    actor: userName,
    stopping,
  });
  if (stopping.aborted) return 0;
  // Awaited here, because the database has to outlive it.
  return await serve({
    config: development.config,
    warnings,
    source: undefined,
    onServing: ({ address }) => void process.stdout.write(renderBanner({ ...development, address })),
  });
}

async function openLog({ logLevel, logFormat }: Config, fields: LogFields = {}): Promise<Logger> {
  const { createLogger } = await import("./telemetry/logger.ts");
  const logger = createLogger({
    level: logLevel,
    format: logFormat,
    destination: process.stdout.fd,
    color: isatty(process.stdout.fd),
    fields,
    clock,
  });
  endOnUnexpected(logger);
  return logger;
}

/** From now on SIGTERM and SIGINT ask for a clean end, and a second one ends the process at once. */
function listenForStop(): AbortSignal {
  if (isDaemon()) return stop.signal;
  let firstAt: number | undefined;
  const onSignal = (signal: NodeJS.Signals, number: number) => {
    if (firstAt === undefined) {
      firstAt = clock.now();
      stop.abort(signal);
    } else if (clock.now() - firstAt > SAME_SIGNAL_MS) {
      process.exit(128 + number);
    }
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  // Heard from the start, because unheard it ends the process.
  process.on("SIGHUP", () => reload?.());
  return stop.signal;
}

/** Whoever read our output has read enough, as in `pbflagd list | head`. A daemon does not need a reader. */
function endWithReader(error: NodeJS.ErrnoException): void {
  if (isDaemon()) return;
  if (error.code === "EPIPE") process.exit();
  process.stderr.write(`error: Cannot write the output: ${error.message}\n`);
  process.exit(1);
}

function isDaemon(): boolean {
  return process.listenerCount("SIGTERM") > 0;
}

/**
 * Whatever nobody foresaw is told and ends the process: going on might answer wrongly. What was learnt is kept before, unless
 * something else happens meanwhile that nobody foresaw.
 */
function endOnUnexpected(logger: Logger): void {
  let isEnding = false;
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error, origin) => {
    logger.error("unexpected_exception", { msg: "ending: this is a bug", origin, err: error });
    if (isEnding) process.exit(70);
    isEnding = true;
    void endUnexpectedly();
  });
}

async function endUnexpectedly(): Promise<never> {
  await keepLast?.();
  process.exit(70);
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** A user id without a name, as in many containers, has no entry to read. */
function readUserName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? "unknown"}`;
  }
}
