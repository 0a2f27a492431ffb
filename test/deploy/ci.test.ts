import { execFile } from "node:child_process";
import { chmod, cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeEach, expect, inject, onTestFinished, test } from "vitest";
import { type CommandResult, hasProgram, runInShell, skipUnless } from "../readme/shell.ts";

const ci = new URL("../../.ci", import.meta.url).pathname;

/**
 * Stands in for npm: what is under test is how .ci/run counts. `NPM_<command>` in the environment says what happens:
 * how many tests pass and fail, or a command to run instead. Each call is written down.
 */
const NPM = `#!/bin/sh
echo "$*" >> "$NPM_CALLS"
[ -t 0 ] && exit 99
case "$*" in
  ci) eval "\${NPM_ci:-true}" ;;
  *generate) eval "\${NPM_generate:-true}" ;;
  *format) eval "\${NPM_format:-true}" ;;
  test) eval "\${NPM_test:-report 100 0}" ;;
  *test:faults) eval "\${NPM_faults:-report 20 0}" ;;
  *test:readme) eval "\${NPM_readme:-report 3 0}" ;;
esac
`;

const REPORT = `#!/bin/sh
tests='{"fullName":"a test","status":"skipped"}'
echo "{\\"numPassedTests\\":$1,\\"numFailedTests\\":$2,\\"testResults\\":[{\\"name\\":\\"a file\\",\\"status\\":\\"passed\\",\\"assertionResults\\":[$tests]}]}" > "$VITEST_JSON"
[ "$2" -eq 0 ]
`;

/** Clean checkout, install, generate, format, and two looks for differences. */
const STEPS = 6;

let folder: string;

beforeEach(async (context) => {
  skipUnless((await hasProgram("git")) && (await hasProgram("bash")), "git or no bash", context);
  folder = join(inject("runFolder"), "ci");
  await mkdir(join(folder, "repository"), { recursive: true });
  await mkdir(join(folder, "bin"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await cp(ci, join(folder, "repository", ".ci"), { recursive: true });
  await program("npm", NPM);
  await program("report", REPORT);
  await git("init", "--quiet");
  await git("add", "--all");
  await git(
    "-c",
    "user.name=test",
    "-c",
    "user.email=test@localhost",
    "commit",
    "--quiet",
    "--message",
    "test",
  );
});

test("runs the README's test command, the faults and the first start, and adds up", async () => {
  const { code, stdout } = await run({});
  expect(lastLine(stdout)).toBe(`${123 + STEPS} passed, 0 failed`);
  expect(code).toBe(0);
  expect((await readFile(join(folder, "calls"), "utf8")).split("\n").slice(0, -1)).toEqual([
    "--version",
    "ci",
    "run -s generate",
    "run -s format",
    "test",
    "run test:faults",
    "run test:readme",
  ]);
});

test("a failed test counts once, and everything else runs all the same", async () => {
  const { code, stdout } = await run({ NPM_test: "report 98 2" });
  expect(lastLine(stdout)).toBe(`${98 + 23 + STEPS} passed, 2 failed`);
  expect(code).toBe(1);
});

test("a suite that ends without a report is a failure", async () => {
  const { code, stdout } = await run({ NPM_faults: "exit 0" });
  expect(lastLine(stdout)).toBe(`${103 + STEPS} passed, 1 failed`);
  expect(code).toBe(1);
});

test("a suite that fails though no test of it does is a failure", async () => {
  const { code, stdout } = await run({ NPM_readme: "report 3 0; exit 1" });
  expect(lastLine(stdout)).toBe(`${123 + STEPS} passed, 1 failed`);
  expect(code).toBe(1);
});

test("what generating or formatting changes is shown, and a failure", async () => {
  const { code, stdout } = await run({ NPM_format: "echo more >> .ci/count.mjs.new" });
  expect(stdout).toContain("?? .ci/count.mjs.new");
  expect(lastLine(stdout)).toBe(`${123 + STEPS - 2} passed, 2 failed`);
  expect(code).toBe(1);
});

test("an install that fails is a failure", async () => {
  const { code, stdout } = await run({ NPM_ci: "exit 1" });
  expect(lastLine(stdout)).toBe(`${123 + STEPS - 1} passed, 1 failed`);
  expect(code).toBe(1);
});

test("where git cannot tell what differs, that is a failure", async () => {
  await rm(join(folder, "repository", ".git"), { recursive: true });
  const { code, stdout } = await run({ GIT_CEILING_DIRECTORIES: folder });
  expect(lastLine(stdout)).toBe(`${123 + STEPS - 3} passed, 3 failed`);
  expect(code).toBe(1);
});

test("skipped tests are named", async () => {
  const { stderr } = await run({});
  expect(stderr).toContain("skipped: a file: a test");
});

test("settings of whoever runs it do not reach the tests", async () => {
  const NPM_test = 'report 100 "$(env | grep -c "^PBFLAGS_\\|^NODE_ENV=")"';
  const { stdout } = await run({
    NPM_test,
    PBFLAGS_DATABASE: "postgres://production/flags",
    NODE_ENV: "production",
  });
  expect(lastLine(stdout)).toBe(`${123 + STEPS} passed, 0 failed`);
});

/** With its standard input closed, as some machines do it. */
function run(env: Readonly<Record<string, string>>): Promise<CommandResult> {
  return runInShell("repository/.ci/run <&-", {
    folder,
    env: {
      HOME: process.env["HOME"] ?? "",
      PATH: `${join(folder, "bin")}:${process.env["PATH"]}`,
      NPM_CALLS: join(folder, "calls"),
      ...env,
    },
  });
}

function lastLine(text: string): string | undefined {
  return text.trimEnd().split("\n").at(-1);
}

async function program(name: string, text: string): Promise<void> {
  const path = join(folder, "bin", name);
  await writeFile(path, text);
  await chmod(path, 0o755);
}

async function git(...args: string[]): Promise<void> {
  await promisify(execFile)("git", args, { cwd: join(folder, "repository") });
}
