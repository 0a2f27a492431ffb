import { Command, CommanderError } from "commander";
import { mask } from "../config/option.ts";
import { addConfig } from "./config.ts";
import { addDev } from "./dev.ts";
import { addEvaluate } from "./evaluate.ts";
import { toFailure } from "./failure.ts";
import { addGet } from "./get.ts";
import { addHealth } from "./health.ts";
import type { Io } from "./io.ts";
import { addKill } from "./kill.ts";
import { addList } from "./list.ts";
import { addMigrate } from "./migrate.ts";
import { addOverride } from "./override.ts";
import { addRevive } from "./revive.ts";
import { addServe } from "./serve.ts";
import { addSet } from "./set.ts";
import { addSql } from "./sql.ts";
import { addSync } from "./sync.ts";
import { toPrintable } from "./text-width.ts";
import { addUpstreams } from "./upstreams.ts";
import { addWatch } from "./watch.ts";

const EXAMPLES = `
Examples:
  pbflagd dev                              a daemon with a database of its own, to try things
  pbflagd serve --config root.yaml         what runs in production
  pbflagd kill notifications/1             turn a flag off, now
  pbflagd COMMAND --help                   options and an example of each command

Exit codes: 0 done, 1 the answer is no, 2 wrong usage or configuration, 3 could not reach the database or daemon.`;

/** Runs one command line, program name not included, and resolves with the exit code. Never rejects. */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  try {
    await createProgram(io).parseAsync([...argv], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const { exitCode, message } = toFailure(error);
    if (message !== "") io.stderr(`error: ${message.split("\n").map(toPrintable).join("\n")}\n`);
    return exitCode;
  }
}

/** All commands. Each loads what it needs only when it runs: `health` runs every few seconds. */
export function createProgram(io: Io): Command {
  const program = new Command("pbflagd")
    .description(
      "Feature flags that always answer: flags are fields of protobuf messages, kill switches live in Postgres.",
    )
    .version(io.version)
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: io.stdout,
      writeErr: io.stderr,
      outputError: (text, write) => write(maskQuoted(text)),
      getOutHelpWidth: () => (io.isTerminal ? io.columns : 100),
      getErrHelpWidth: () => (io.isTerminal ? io.columns : 100),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    // Narrow terminals get narrow texts rather than lines that run over.
    .configureHelp({ minWidthToWrap: 20 })
    .addHelpText("after", EXAMPLES);

  program.commandsGroup("Daemon:");
  for (const add of [addServe, addDev, addHealth, addUpstreams, addWatch, addConfig]) add(program, io);
  program.commandsGroup("Database:");
  for (const add of [addMigrate, addSync, addSql]) add(program, io);
  program.commandsGroup("Flags:");
  for (const add of [addList, addGet, addEvaluate, addSet, addKill, addRevive, addOverride]) add(program, io);
  return program;
}

/** What commander quotes is what it was given: a URL in the wrong place, or in `--databse=postgres://…`. */
function maskQuoted(text: string): string {
  return text.replace(
    /'(--?[^=']*=)?(.*)'/s,
    (_, option: string | undefined, given: string) => `'${option ?? ""}${mask(given)}'`,
  );
}
