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
    await createProgram(io, argv[0]).parseAsync([...argv], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const { exitCode, message } = toFailure(error);
    if (message !== "") io.stderr(`error: ${message.split("\n").map(toPrintable).join("\n")}\n`);
    return exitCode;
  }
}

const COMMANDS: Readonly<Record<string, Readonly<Record<string, (program: Command, io: Io) => void>>>> = {
  "Daemon:": {
    serve: addServe,
    dev: addDev,
    health: addHealth,
    upstreams: addUpstreams,
    watch: addWatch,
    config: addConfig,
  },
  "Database:": { migrate: addMigrate, sync: addSync, sql: addSql },
  "Flags:": {
    list: addList,
    get: addGet,
    evaluate: addEvaluate,
    set: addSet,
    kill: addKill,
    revive: addRevive,
    override: addOverride,
  },
};

/**
 * The command of that name, or all if it is none: making the hundreds of options of all takes longer than running some.
 * Each loads what it needs only when it runs: `health` runs every few seconds.
 */
export function createProgram(io: Io, named = ""): Command {
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

  const groups = Object.entries(COMMANDS);
  const isOne = groups.some(([, commands]) => Object.hasOwn(commands, named));
  for (const [heading, commands] of groups) {
    program.commandsGroup(heading);
    for (const [name, add] of Object.entries(commands)) if (!isOne || name === named) add(program, io);
  }
  return program;
}

/** What commander quotes is what it was given: a URL in the wrong place, or in `--databse=postgres://…`. */
function maskQuoted(text: string): string {
  return text.replace(
    /'(--?[^=']*=)?(.*)'/s,
    (_, option: string | undefined, given: string) => `'${option ?? ""}${mask(given)}'`,
  );
}
