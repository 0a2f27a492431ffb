import type { Command } from "commander";
import { addAddress, findAddress } from "./address-option.ts";
import { askDaemon } from "./ask-daemon.ts";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";

interface Check {
  readonly name: string;
  /** Null: never checked. */
  readonly healthy: boolean | null;
  readonly message: string;
}

/** `pbflagd health`: whether the daemon is ready, as an exit code. */
export function addHealth(program: Command, io: Io): void {
  const command = program
    .command("health")
    .description(
      "Ask the running daemon whether it is ready. Exit code 0: yes, 1: no, 3: it does not answer.",
    )
    .option("--live", "ask whether it is alive instead (/healthz)")
    .option("--json", "print the daemon's answer")
    .addHelpText(
      "after",
      `
Examples:
  pbflagd health
  pbflagd health --address unix:///run/pbflagd.sock
  HEALTHCHECK CMD ["pbflagd", "health"]`,
    );
  addAddress(command).action(async ({ live = false, json = false }: { live?: boolean; json?: boolean }) => {
    const address = await findAddress(command, io);
    const { status, body } = await askDaemon(
      address,
      { method: "GET", path: live ? "/healthz" : "/readyz" },
      io.clock,
    );
    if (json) io.stdout(`${body.trim()}\n`);
    const [yes, no] = live ? ["alive", "not alive"] : ["ready", "not ready"];
    if (status !== 200)
      throw new CommandError(1, [no, ...unhealthy(body)].join("; ") || `${no}, got HTTP ${status}`);
    if (!json) io.stdout(`${yes}\n`);
  });
}

/** The checks that failed, as the daemon tells them. */
function unhealthy(body: string): readonly string[] {
  return checksOf(body)
    .filter(({ healthy }) => healthy === false)
    .map(({ name, message }) => `${name}: ${message}`);
}

function checksOf(body: string): readonly Check[] {
  try {
    const answer: unknown = JSON.parse(body);
    const checks: unknown =
      typeof answer === "object" && answer !== null && "checks" in answer ? answer.checks : [];
    return Array.isArray(checks) ? checks.filter(isCheck) : [];
  } catch {
    return [];
  }
}

function isCheck(value: unknown): value is Check {
  return (
    typeof value === "object" && value !== null && "name" in value && "healthy" in value && "message" in value
  );
}
