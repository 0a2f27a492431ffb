import type { Command } from "commander";
import { formatAddress } from "../config/address.ts";
import { addAddress, findAddress } from "./address-option.ts";
import { askDaemon, type Reply } from "./ask-daemon.ts";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { printRows } from "./print.ts";

/** An answer in the JSON of `pbflags.v1.EvaluateResponse`. */
interface Evaluation {
  readonly flagId: string;
  readonly value?: Readonly<Record<string, unknown>>;
  readonly source?: string;
}

interface Options {
  readonly entity?: string;
  readonly all?: boolean;
  readonly json?: boolean;
  readonly minVersion?: string;
}

/** `pbflagd evaluate`: what the running daemon answers. */
export function addEvaluate(program: Command, io: Io): void {
  const command = program
    .command("evaluate")
    .description("Ask the running daemon for the values of flags.")
    .argument("[flags...]", "ids or aliases, such as notifications/1 or notifications.email_enabled")
    .option("--entity <id>", "for whom, such as a user's id; without it, the global values")
    .option("--all", "every defined flag")
    .option("--min-version <version>", "wait until the daemon knows this version, as writes print it")
    .option("--json", "print the evaluations as pbflags.v1 has them in JSON")
    .addHelpText(
      "after",
      `
Examples:
  pbflagd evaluate notifications/1 --entity user-42
  pbflagd evaluate --all --json`,
    );
  addAddress(command).action(async (flagIds: readonly string[], options: Options) => {
    checkFlags(flagIds, options.all ?? false);
    const address = await findAddress(command, io);
    const body = { flagIds, entityId: options.entity ?? "" };
    const path = "/pbflags.v1.FlagEvaluatorService/BulkEvaluate";
    const evaluations = readEvaluations(
      await askDaemon(address, { method: "POST", path, body, headers: toHeaders(options) }, io.clock),
      formatAddress(address),
    );
    printRows(io, evaluations, {
      json: options.json ?? false,
      columns: {
        FLAG: ({ flagId }) => flagId,
        VALUE: ({ value }) => formatValue(value),
        SOURCE: ({ source = "" }) => source.replace("EVALUATION_SOURCE_", "").toLowerCase(),
      },
      none: "No flags are defined.",
    });
  });
}

function checkFlags(flagIds: readonly string[], all: boolean): void {
  if (all && flagIds.length > 0)
    throw new CommandError(2, "--all goes without flags: name flags, or ask for all");
  if (!all && flagIds.length === 0) throw new CommandError(2, "expected a flag, or --all");
  if (flagIds.includes("")) throw new CommandError(2, 'expected the id of a flag, got ""');
}

function toHeaders({ minVersion }: Options): Readonly<Record<string, string>> {
  if (minVersion === undefined) return {};
  // What no header can carry would fail on the way.
  if (/^[!-~]+:\d+$/.test(minVersion)) return { "pbflags-min-version": minVersion };
  throw new CommandError(
    2,
    `--min-version: expected epoch:revision as writes print it, got ${JSON.stringify(minVersion)}`,
  );
}

function readEvaluations({ status, body }: Reply, place: string): readonly Evaluation[] {
  const answer = parseJson(body);
  if (status === 200 && "evaluations" in answer && Array.isArray(answer.evaluations)) {
    return answer.evaluations.filter(isEvaluation);
  }
  // Proto3 JSON leaves out what is empty.
  if (status === 200 && Object.keys(answer).length === 0 && body.trim() === "{}") return [];
  if (!("code" in answer))
    throw new CommandError(1, `Cannot evaluate: no evaluator answers at ${place}, got HTTP ${status}`);
  const message = "message" in answer ? String(answer.message) : "";
  const exitCode = { invalid_argument: 2, unavailable: 3 }[String(answer.code)] ?? 1;
  throw new CommandError(exitCode, `Cannot evaluate: ${String(answer.code)}: ${message}`);
}

function parseJson(body: string): object {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}

function isEvaluation(value: unknown): value is Evaluation {
  return typeof value === "object" && value !== null && "flagId" in value && typeof value.flagId === "string";
}

/** A `FlagValue` in JSON, as people read it. */
function formatValue(value: Evaluation["value"]): string {
  const [inner] = Object.values(value ?? {});
  if (inner === undefined) return "-";
  if (typeof inner === "string" && inner !== "") return inner;
  if (typeof inner !== "object" || inner === null) return JSON.stringify(inner);
  // An empty list is left out of the JSON.
  return JSON.stringify("values" in inner ? inner.values : []);
}
