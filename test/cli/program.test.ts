import { readdir, readFile } from "node:fs/promises";
import type { Command } from "commander";
import { expect, test } from "vitest";
import { createProgram } from "../../src/cli/program.ts";
import { keysOf, settingEntries, toFlag } from "../../src/config/settings.ts";
import { createIo, runCli } from "./run-cli.ts";

const program = createProgram(createIo());

function commandsOf(command: Command): readonly Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(commandsOf);
}

function pathOf(command: Command): readonly string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()];
}

const paths = commandsOf(program).map(pathOf);

test("a command that is named is made alone, and as among all", () => {
  for (const command of program.commands) {
    const alone = createProgram(createIo(), command.name());
    expect(alone.commands.map((one) => one.name())).toEqual([command.name()]);
    expect(alone.commands[0]?.helpInformation()).toBe(command.helpInformation());
  }
  for (const none of ["", "--help", "help", "srve", "constructor"])
    expect(createProgram(createIo(), none).commands).toHaveLength(program.commands.length);
});

test("there is every command that the design names for this version", () => {
  expect(paths.map((path) => path.join(" ")).toSorted()).toEqual([
    "config check",
    "config print",
    "dev",
    "evaluate",
    "get",
    "health",
    "kill",
    "list",
    "migrate",
    "override list",
    "override remove",
    "override set",
    "revive",
    "serve",
    "set",
    "sql",
    "sync",
    "upstreams",
    "watch",
  ]);
});

test.each(paths)("%s %s explains itself with an example", async (...path) => {
  const words = path.filter((word) => word !== undefined);
  const { exitCode, stdout, stderr } = await runCli([...words, "--help"]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout).toMatch(new RegExp(`Examples?:\n(?:  .*\n)*?.*pbflagd ${words.join(" ")}|HEALTHCHECK`));
});

test("commands load what they need only when they run, so that health is quick", async () => {
  const folder = new URL("../../src/cli/", import.meta.url);
  const heavy: string[] = [];
  for (const name of await readdir(folder)) {
    const source = await readFile(new URL(name, folder), "utf8");
    const imports = source.matchAll(
      /^import (?!type )[^;]*? from "((?:\.\.\/(?:store|flags|daemon|config\/(?:config-file|yaml))|yaml|pg)[^"]*)"/gm,
    );
    if (!name.endsWith(".test.ts")) heavy.push(...Array.from(imports, ([, path]) => `${name}: ${path}`));
  }
  expect(heavy).toEqual([]);
});

test("help fits the terminal", async () => {
  const { stdout } = await runCli(["serve", "--help"], { columns: 80 });
  const tooLong = stdout
    .split("\n")
    .filter((line) => line.length > 80 && !line.includes("pbflagd serve") && !/^(Settings|cache)/.test(line));
  expect(tooLong).toEqual([]);
});

test.each(["serve", "dev", "config check"])("%s takes every setting as a flag", async (name) => {
  const { stdout } = await runCli([...name.split(" "), "--help"]);
  const flags = settingEntries.flatMap(([key]) => keysOf(key).map(toFlag));
  expect(flags.filter((flag) => !stdout.includes(`${flag} `))).toEqual([]);
});

test.each([
  [["kil"], "unknown command 'kil'\n(Did you mean kill?)"],
  [["override", "sett"], "unknown command 'sett'\n(Did you mean set?)"],
  [["serve", "--lisen", ":1"], "unknown option '--lisen'\n(Did you mean --listen?)"],
  [["list", "--jsn"], "unknown option '--jsn'\n(Did you mean --json?)"],
  [["kill"], "missing required argument 'flag'"],
  [["revive"], "missing required argument 'flag'"],
  [["get"], "missing required argument 'flag'"],
  [["set"], "missing required argument 'flag'"],
  [["sql"], "missing required argument 'statement'"],
  [["override", "set", "a/1", "me"], "missing required argument 'value'"],
  [["override", "remove", "a/1"], "missing required argument 'entity'"],
  [["kill", "a/1", "a/2"], "too many arguments for 'kill'. Expected 1 argument but got 2."],
  [["sql", "SELECT", "1"], "too many arguments for 'sql'. Expected 1 argument but got 2."],
  [["serve", "now"], "too many arguments for 'serve'. Expected 0 arguments but got 1."],
  [["kill", "a/1", "--actor"], "option '--actor <name>' argument missing"],
  [["set", "a/1"], "expected a value, or --default"],
  [["set", "a/1", "x", "--default"], "--default goes without a value"],
  [["evaluate"], "expected a flag, or --all"],
  [["evaluate", "a/1", "--all"], "--all goes without flags: name flags, or ask for all"],
  [["evaluate", ""], 'expected the id of a flag, got ""'],
  [
    ["evaluate", "a/1", "--address", "nowhere"],
    '--address: expected an address such as "localhost:9201" or "unix:///path", got "nowhere"',
  ],
  [["upstreams", "root-a"], "too many arguments for 'upstreams'. Expected 0 arguments but got 1."],
  [["upstreams", "--reset"], "option '--reset <name>' argument missing"],
  [["upstreams", "--reset", ""], 'expected the name of an upstream, got ""'],
  [
    ["upstreams", "--reset", "root-a", "--check"],
    "--check and --reset exclude each other: reset first, then check",
  ],
  [["health", "--listen", ":0"], "listen: port 0 is any free port; name the daemon's with --address"],
  [["sync"], "descriptors: not set; name the descriptor set with --descriptors or PBFLAGS_DESCRIPTORS"],
  [["sql", " "], "expected an SQL statement, got nothing"],
  [["sql", "-"], "expected an SQL statement, got nothing"],
])("%j is wrong usage", async (argv, message) => {
  const { exitCode, stdout, stderr } = await runCli(argv);
  expect(stderr).toBe(`error: ${message}\n`);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
});

test("without a command, the help goes to the standard error, and the exit code is that of wrong usage", async () => {
  for (const argv of [[], ["config"], ["override"]]) {
    const { exitCode, stdout, stderr } = await runCli(argv);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain("Usage: pbflagd");
  }
});

test("--version prints the version", async () => {
  expect(await runCli(["--version"])).toEqual({ exitCode: 0, stdout: "1.2.3\n", stderr: "" });
});

test.each([
  ["list"],
  ["get", "a/1"],
  ["set", "a/1", "x"],
  ["kill", "a/1"],
  ["revive", "a/1"],
  ["migrate"],
  ["sql", "SELECT 1"],
  ["override", "list"],
  ["override", "set", "a/1", "me", "x"],
  ["override", "remove", "a/1", "me"],
])("%s %s %s: bad configuration is named before anything is done", async (...argv) => {
  const env = { PBFLAGS_DATABASE: "mysql://me:hunter2@db", PBFLAGS_LISTEN: "x" };
  const { exitCode, stdout, stderr } = await runCli(argv, { env });
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  expect(stderr).toContain(
    'PBFLAGS_DATABASE: expected a URL such as "postgres://user@host:5432/database", got "mysql://me:***@db"\n',
  );
  expect(stderr).toContain("PBFLAGS_LISTEN: expected an address");
});
