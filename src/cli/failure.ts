/** How a command ends otherwise than with 0. docs/cli.md explains the codes to their readers. */
export type ExitCode =
  /** The answer is no: not healthy, no such flag, refused by the database. */
  | 1
  /** What was asked for cannot be: arguments, configuration, a value of the wrong type. */
  | 2
  /** Could not reach whom to ask. */
  | 3;

/** Ends a command with an exit code, and one line on the standard error unless the message is empty. */
export class CommandError extends Error {
  override readonly name = "CommandError";

  constructor(
    readonly exitCode: number,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export interface Failure {
  readonly exitCode: number;
  /** Empty if everything has been said. */
  readonly message: string;
}

/** Told apart by name, so that a command need not load what it does not use. Others of our own mean 1. */
const CODE_BY_NAME: Readonly<Record<string, ExitCode>> = {
  ConfigError: 2,
  DescriptorError: 2,
  InvalidValueError: 2,
  InvalidEntityError: 2,
  GlobalFlagError: 2,
  UpstreamError: 2,
  DatabaseUnreachableError: 3,
  EmbeddedPostgresError: 3,
  StoreRequiredError: 3,
};

/** Errors of the language. Ours have names of their own, and messages for the operator. */
const UNFORESEEN = /^(?:Error|(?:Type|Range|Reference|Syntax|Eval|URI|Aggregate|Assertion|Suppressed)Error)$/;

/** What an error of a command means to the caller. */
export function toFailure(error: unknown): Failure {
  if (!(error instanceof Error)) return { exitCode: 1, message: `Unexpected: ${String(error)}` };
  if (error instanceof CommandError) return { exitCode: error.exitCode, message: error.message };
  if (isDatabaseError(error)) return fromDatabase(error);
  if (/^Connection terminated|^Client has encountered a connection error/.test(error.message)) {
    return { exitCode: 3, message: `Lost the connection to the database: ${error.message}` };
  }
  if (!UNFORESEEN.test(error.name) || "syscall" in error) {
    return { exitCode: CODE_BY_NAME[error.name] ?? 1, message: error.message };
  }
  // Nobody foresaw this one: whoever mends it needs to know where it came from.
  return { exitCode: 1, message: `Unexpected ${error.stack ?? error.message}` };
}

/** An error that Postgres reported. */
interface DatabaseError extends Error {
  readonly severity: string;
  readonly code: string;
  readonly hint?: string;
  readonly detail?: string;
}

function isDatabaseError(error: Error): error is DatabaseError {
  return "severity" in error && "code" in error && typeof error.code === "string";
}

function fromDatabase({ code, message, detail, hint }: DatabaseError): Failure {
  const missing = code === "3F000" || (/^42(P01|883|703)$/.test(code) && message.includes("feature_flags"));
  const advice = missing ? 'Run "pbflagd migrate" first.' : hint;
  const sentences = [message, detail, advice].filter((part) => part !== undefined && part !== "");
  return {
    exitCode: codeOf(code),
    message: sentences
      .map((part) => String(part).trim())
      .join(". ")
      .replaceAll("..", "."),
  };
}

/** PF… are the codes of our own SQL functions: PF001 is "no such flag", the others are bad arguments. */
function codeOf(sqlState: string): ExitCode {
  if (/^PF00[2-9]$/.test(sqlState)) return 2;
  return /^(?:08|57P0|53300)/.test(sqlState) ? 3 : 1;
}
