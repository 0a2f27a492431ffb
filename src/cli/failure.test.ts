import { expect, test } from "vitest";
import { ConfigError } from "../config/config-error.ts";
import { CommandError, toFailure } from "./failure.ts";

/** As `pg` throws it. */
function databaseError(code: string, message: string, more: object = {}): Error {
  return Object.assign(new Error(message), { severity: "ERROR", code, ...more });
}

test.each<[string, unknown, number, string]>([
  ["a command's own", new CommandError(3, "nobody there"), 3, "nobody there"],
  ["bad configuration", new ConfigError(["listen: no"]), 2, "Cannot use configuration:\n  listen: no"],
  [
    "an unknown flag",
    databaseError("PF001", 'Cannot kill "x": no such flag', { hint: "There are: a/1." }),
    1,
    'Cannot kill "x": no such flag. There are: a/1.',
  ],
  ["a bad value", databaseError("PF002", "expected true or false"), 2, "expected true or false"],
  [
    "no schema",
    databaseError("3F000", 'schema "feature_flags" does not exist'),
    1,
    'schema "feature_flags" does not exist. Run "pbflagd migrate" first.',
  ],
  [
    "another's missing table",
    databaseError("42P01", 'relation "x" does not exist'),
    1,
    'relation "x" does not exist',
  ],
  ["a server that shuts down", databaseError("57P01", "terminating connection"), 3, "terminating connection"],
  [
    "a lost connection",
    new Error("Connection terminated unexpectedly"),
    3,
    "Lost the connection to the database: Connection terminated unexpectedly",
  ],
  [
    "a system call",
    Object.assign(new Error("EACCES: denied, open 'x'"), { syscall: "open", code: "EACCES" }),
    1,
    "EACCES: denied, open 'x'",
  ],
  [
    "a part's own error",
    Object.assign(new Error("Cannot listen on :1"), { name: "ListenError" }),
    1,
    "Cannot listen on :1",
  ],
  [
    "an unreachable database",
    Object.assign(new Error("Cannot reach it"), { name: "DatabaseUnreachableError" }),
    3,
    "Cannot reach it",
  ],
  ["something thrown", "text", 1, "Unexpected: text"],
])("%s ends a command with its exit code and message", (_, error, exitCode, message) => {
  expect(toFailure(error)).toEqual({ exitCode, message });
});

test("a mistake of ours shows its stack", () => {
  const { exitCode, message } = toFailure(new TypeError("x is not a function"));
  expect(exitCode).toBe(1);
  expect(message).toContain("TypeError: x is not a function");
  expect(message).toContain("failure.test.ts");
});
