import type { ConfigSource } from "../config/load-config.ts";
import type { Config } from "../config/settings.ts";
import type { Clock } from "../system/clock.ts";

/** The process as commands see it. `main` hands in the real one, tests their own. */
export interface Io {
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether people read the standard output. */
  readonly isTerminal: boolean;
  /** The terminal's width in characters. */
  readonly columns: number;
  /** The login name: who did it, in the audit log. */
  readonly userName: string;
  /** Of pbflagd, as package.json has it. */
  readonly version: string;
  readonly clock: Clock;
  /** From now on Ctrl-C asks for a clean end, by aborting this. Unset: it ends the process. */
  readonly interrupted: () => AbortSignal;
  /**
   * Runs a daemon until a signal stops it, and resolves with the exit code.
   * The warnings are those of the configuration, one sentence each; the source is where it came from.
   */
  readonly serve: (config: Config, warnings: readonly string[], source: ConfigSource) => Promise<number>;
  /** The same, with a database of its own and example flags. */
  readonly dev: (config: Config, warnings: readonly string[]) => Promise<number>;
}
