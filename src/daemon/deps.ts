import type { ConfigSource } from "../config/load-config.ts";
import type { Clock } from "../system/clock.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Tracing } from "../telemetry/tracing.ts";
import type { DaemonPart } from "./part.ts";

/** The outside world, as the daemon needs it. */
export interface DaemonDeps {
  /** Of pbflagd, as package.json has it. */
  readonly version: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  /** Undefined: nothing is traced. */
  readonly tracing: Tracing | undefined;
  /** Aborts when the process is asked to end, be it before the daemon is open: then opening it waits for nothing. */
  readonly stopping: AbortSignal;
  /** Where the configuration comes from, for reloads. Undefined: it cannot be had again. */
  readonly configSource: ConfigSource | undefined;
  /** The variables of this process: a few of them are handed on to `exec:` programs. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** This user's folder for sockets and process ids of `exec:` programs, where `state_dir` is not set. */
  readonly runtimeFolder: string;
  /** Which part of a daemon of several processes this one is. Unset: all of it. */
  readonly part?: DaemonPart;
}
