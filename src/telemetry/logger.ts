import { pino } from "pino";
import type { Clock } from "../system/clock.ts";
import { toLogFields, toLogText } from "./log-value.ts";
import { toPrettyLine } from "./pretty-line.ts";
import { RepeatLimiter } from "./repeat-limiter.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * Context of an event. Errors are taken apart and secrets taken out, at any depth.
 * `msg` says the event in words; without it the event's own name does.
 */
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * Writes one line an event and never throws. An event is a fixed name such as `store_call_failed`:
 * what varies goes into the fields. Repeated warnings and errors of one event are thinned out.
 */
export interface Logger {
  /** The least severe events that are written. */
  level: LogLevel;
  /** For callers that would otherwise gather fields in vain on every request. */
  readonly debugEnabled: boolean;
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

export interface LoggerOptions {
  readonly level: LogLevel;
  /** `pretty` is for people, and leaves out stack traces above level `debug`. */
  readonly format: "json" | "pretty";
  /** A file descriptor, or something to write to. Either is written to synchronously. */
  readonly destination: number | LineWriter;
  /** Whether `pretty` may use colours. */
  readonly color?: boolean;
  /** In every line. Unset: none. */
  readonly fields?: LogFields;
  readonly clock: Pick<Clock, "now">;
}

export interface LineWriter {
  write(line: string): unknown;
}

/** Warnings and errors of one event that get through within `REPEAT_WINDOW_MS`. */
const REPEATS_MAX = 5;
const REPEAT_WINDOW_MS = 10_000;

export function createLogger(options: LoggerOptions): Logger {
  let { level: current } = options;
  const log = pino(
    {
      level: options.level,
      base: options.fields ?? null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // Fields arrive as plain values: there is nothing left to serialise.
      serializers: { err: (value: unknown) => value },
    },
    openDestination(options, () => current === "debug"),
  );
  const repeats = new RepeatLimiter({
    repeatsMax: REPEATS_MAX,
    windowMs: REPEAT_WINDOW_MS,
    clock: options.clock,
  });

  const write = (level: LogLevel, event: string, fields: LogFields = {}) => {
    if (!log.isLevelEnabled(level)) return;
    log[level](toLine(event, fields));
  };
  const writeLimited = (level: LogLevel, event: string, fields: LogFields = {}) => {
    const admitted = repeats.admit(event);
    if (admitted === undefined) return;
    write(level, event, admitted.dropped === 0 ? fields : { ...fields, dropped: admitted.dropped });
  };

  return {
    get level() {
      return current;
    },
    set level(next) {
      current = next;
      log.level = next;
    },
    get debugEnabled() {
      return current === "debug";
    },
    debug: (event, fields) => write("debug", event, fields),
    info: (event, fields) => write("info", event, fields),
    warn: (event, fields) => writeLimited("warn", event, fields),
    error: (event, fields) => writeLimited("error", event, fields),
  };
}

/** Names that pino, or we, have given a meaning. */
const TAKEN = new Set(["time", "level", "event", "msg"]);

function toLine(event: string, { msg, ...context }: LogFields): Record<string, unknown> {
  const own = Object.entries(context).map(([name, value]) => [TAKEN.has(name) ? `${name}_` : name, value]);
  return {
    event,
    msg: toLogText(typeof msg === "string" ? msg : event.replaceAll("_", " ")),
    ...toLogFields(Object.fromEntries(own)),
  };
}

function openDestination(
  { destination, format, color = false }: LoggerOptions,
  stacks: () => boolean,
): LineWriter {
  const out = typeof destination === "number" ? openDescriptor(destination) : destination;
  if (format === "json") return out;
  return { write: (line) => out.write(toPrettyLine(line, { color, stacks: stacks() })) };
}

/** What has not been taken yet by a reader that is slow, or a disk that is full. More is dropped. */
const BACKLOG_BYTES_MAX = 1024 * 1024;

function openDescriptor(fd: number): LineWriter {
  const out = pino.destination({
    fd,
    sync: true,
    maxLength: BACKLOG_BYTES_MAX,
    // Try again with the next line. The alternative, waiting here, would stop the daemon with its log.
    retryEAGAIN: () => false,
  });
  // A log that cannot be written must not end the daemon.
  out.on("error", () => {});
  return out;
}
