import type { Logger } from "../telemetry/logger.ts";
import type { ExecOptions } from "../upstream/exec/exec-transport.ts";

/** Turns what happens to the programs of `exec:` upstreams, and what they print, into log lines. */
export function reportProgram(logger: Logger): Pick<ExecOptions, "onOutput" | "onEvent"> {
  return {
    onOutput: (upstream, line) => logger.info("program_output", { upstream, line }),
    onEvent(upstream, { kind, ...fields }) {
      const level = kind === "refused" || kind === "failed" || kind === "killed" ? "warn" : "info";
      logger[level](`program_${kind}`, { upstream, ...fields });
    },
  };
}
