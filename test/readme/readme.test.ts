import { mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { loadDescriptors } from "../../src/flags/load-descriptors.ts";
import { eventually } from "../support/eventually.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { commandsOf, readCodeBlocks } from "./code-blocks.ts";
import { cloneRepository, type FreshClone } from "./fresh-machine.ts";
import { type NpmStart, startNpm } from "./npm-start.ts";
import { hasProgram, runInShell, skipUnless, typeIn } from "./shell.ts";

/**
 * "Under 15 s from the end of the install to serving" is for a machine that has nothing else to do. What takes longer
 * than the most of a busy one hangs.
 */
const START_MS = { goal: 15_000, most: 100_000 } as const;

const blocks = readCodeBlocks(await readFile(new URL("../../README.md", import.meta.url), "utf8"));
const [install, tryIt, runTests, sidecar] = blocks
  .filter(({ language }) => language === "sh")
  .map((block) => commandsOf(block));

let clone: FreshClone;

beforeAll(async () => {
  if (await isTaken(9201))
    throw new Error("Cannot run: something listens on port 9201, which a first start takes");
  clone = await cloneRepository("readme");
});

afterAll(() => clone?.[Symbol.asyncDispose]());

test("the README has these commands in a shell, and no others that would go unchecked", () => {
  expect(blocks.filter(({ language }) => language === "sh").map(({ heading }) => heading)).toEqual([
    "Try it",
    "Try it",
    "Try it",
    "Run it as a sidecar",
  ]);
  expect(install).toEqual(["npm ci", "npm start"]);
  // What .ci/run runs.
  expect(runTests).toEqual(["npm ci", "npm test"]);
  expect(tryIt?.length).toBe(4);
  expect(sidecar?.length).toBe(3);
});

describe("after the first npm start", () => {
  let started: NpmStart;
  let servingAfterMs: number;

  beforeAll(async () => {
    started = startNpm(clone);
    servingAfterMs = await started.whenServing();
  });

  afterAll(() => started?.[Symbol.asyncDispose]());

  test("it serves in time", () => {
    console.log(
      `npm start: serving after ${(servingAfterMs / 1_000).toFixed(1)} s (goal: ${START_MS.goal / 1_000} s)`,
    );
    expect(servingAfterMs).toBeLessThan(START_MS.most);
  });

  test("the README's commands do what it says, word for word", async () => {
    const [ask = "", kill = "", askAgain = "", look = ""] = tryIt ?? [];
    expect(JSON.parse(await typeIn(ask, clone))).toMatchObject({
      flagId: "notifications/1",
      value: { boolValue: true },
    });
    expect(await typeIn(kill, clone)).toContain("KILLED");
    expect(JSON.parse(await typeIn(askAgain, clone))).toMatchObject({ source: "EVALUATION_SOURCE_KILLED" });
    expect(await typeIn(look, clone)).toMatch(/^pbflags_kill\w* [1-9]/m);

    await typeIn("npx pbflagd revive notifications/1", clone);
    expect(await typeIn(askAgain, clone)).not.toContain("KILLED");
  });

  test("its own four commands do what it says, word for word", async () => {
    const commands = bannerCommands(started.output);
    expect(commands.length).toBe(4);
    const [ask = "", kill = "", askAgain = "", look = ""] = commands;
    expect(await typeIn(ask, clone)).not.toContain("KILLED");
    expect(await typeIn(kill, clone)).toContain("KILLED");
    expect(JSON.parse(await typeIn(askAgain, clone))).toMatchObject({ source: "EVALUATION_SOURCE_KILLED" });
    expect(await typeIn(look, clone)).toMatch(/^pbflags_evaluations_total\{.*killed.*\} [1-9]/im);
  });

  test("its postgres:// URL works with psql, and so does the README's SQL", async (context) => {
    skipUnless(await hasProgram("psql"), "psql", context);
    const [url = ""] = /postgres:\/\/\S+/.exec(started.output) ?? [];
    const sql = blocks.find(({ language }) => language === "sql")?.text ?? "";
    const env = { ...clone.env, URL: url, SQL: sql };
    const said = await typeIn('psql "$URL" --no-psqlrc -v ON_ERROR_STOP=1 -c "$SQL"', { ...clone, env });
    expect(said).toMatch(/notifications\/2 .*weekly/);
  });

  test("the README's SQL works without psql", async () => {
    const sql = blocks.find(({ language }) => language === "sql")?.text ?? "";
    const said = await typeIn('npx pbflagd sql "$SQL"', { ...clone, env: { ...clone.env, SQL: sql } });
    expect(said).toMatch(/notifications\/2 .*weekly/);
  });

  test("Ctrl-C ends it with exit code 0, and no process is left", async () => {
    await typeIn(`npx pbflagd kill notifications/1`, clone);
    const running = await started.listProcesses();
    expect(running.join("\n")).toMatch(/postgres/);
    expect(await started.interrupt()).toEqual({ code: 0, signal: null });
    expect(await started.listProcesses()).toEqual([]);
    expect(await isTaken(9201)).toBe(false);
  });
});

describe("after another npm start", () => {
  let started: NpmStart;

  beforeAll(async () => {
    started = startNpm(clone);
    await started.whenServing();
  });

  afterAll(() => started?.[Symbol.asyncDispose]());

  test("what was set before is in force", async () => {
    const [ask = ""] = tryIt ?? [];
    expect(JSON.parse(await typeIn(ask, clone))).toMatchObject({ source: "EVALUATION_SOURCE_KILLED" });
    expect(JSON.parse(await typeIn(ask.replace("notifications/1", "notifications/2"), clone))).toMatchObject({
      value: { stringValue: "weekly" },
      source: "EVALUATION_SOURCE_GLOBAL",
    });
  });

  test("one more says in one line what is in its way, and leaves the first one alone", async () => {
    const { code, stderr } = await runInShell("npm start", clone);
    expect(code).not.toBe(0);
    expect(stderr.split("\n").filter((line) => line.startsWith("error:"))).toEqual([
      expect.stringMatching(
        /^error: Cannot use data directory .*: it is in use by another pbflagd \(pid \d+\)/,
      ),
    ]);
    const [ask = ""] = tryIt ?? [];
    expect(await typeIn(ask, clone)).toContain("EVALUATION_SOURCE_KILLED");
  });
});

test("Ctrl-C in a terminal ends npm start with exit code 0, and no process is left", async (context) => {
  skipUnless(await hasUtilLinuxScript(), "util-linux `script` to make a terminal with", context);
  await using started = startNpm({ ...clone, terminal: true });
  await started.whenServing();
  expect(started.output).toContain("evaluator   http://localhost:9201");
  expect((await started.listProcesses()).length).toBeGreaterThan(0);
  expect(await started.interrupt()).toEqual({ code: 0, signal: null });
  expect(await started.listProcesses()).toEqual([]);
});

test("the README's sidecar serves flags made as it says", async () => {
  await using database = await createTestDatabase({ migrated: false });
  const [migrate = "", sync = "", serve = ""] = sidecar ?? [];
  const where = { folder: clone.folder, env: { ...clone.env, ...(await installed()), URL: database.url } };
  await typeIn("buf build -o flags.pb", where);
  expect(await typeIn(migrate, where)).toContain("The database is up to date");
  expect(await typeIn(sync, where)).toContain("created   notifications/1");

  const stop = new AbortController();
  const serving = runInShell(`exec ${serve}`, where, stop.signal);
  onTestFinished(() => stop.abort());
  await eventually(async () => (await runInShell("pbflagd health", where)).code === 0, {
    timeoutMs: 30_000,
    what: "pbflagd health says that it is ready",
  });
  expect(JSON.parse(await typeIn(tryIt?.[0] ?? "", where))).toMatchObject({ value: { boolValue: true } });
  stop.abort();
  expect((await serving).code).toBe(0);
});

test("the README's proto is one that pbflagd reads", async () => {
  const proto = blocks.find(({ language }) => language === "proto")?.text ?? "";
  const folder = join(clone.folder, "examples", "flags", "readme");
  await mkdir(folder);
  await writeFile(
    join(folder, "readme.proto"),
    `syntax = "proto3";\npackage readme;\nimport "pbflags/options.proto";\n${proto}\n`,
  );
  const where = { folder: clone.folder, env: { ...clone.env, ...(await installed()) } };
  await typeIn("buf build examples/flags --path examples/flags/readme -o readme.pb", where);
  const { flags } = await loadDescriptors(join(clone.folder, "readme.pb"));
  expect(flags).toMatchObject([
    { id: "notifications/1", alias: "notifications.email_enabled", type: "BOOL", layer: "user" },
  ]);
});

/** A PATH with `pbflagd` and `buf` on it, as where they are installed. */
async function installed(): Promise<{ readonly PATH: string }> {
  const bin = join(clone.folder, ".bin");
  await mkdir(bin, { recursive: true });
  await rm(join(bin, "pbflagd"), { force: true });
  await symlink(join(clone.folder, "dist", "main.js"), join(bin, "pbflagd"));
  return { PATH: [bin, join(clone.folder, "node_modules", ".bin"), clone.env["PATH"]].join(":") };
}

function bannerCommands(output: string): readonly string[] {
  const text = output.slice(output.indexOf("Try, in another terminal"));
  return [...text.matchAll(/^ {4}(?!#)(\S.*)$/gm)].map(([, command = ""]) => command);
}

async function hasUtilLinuxScript(): Promise<boolean> {
  const { stdout } = await runInShell("script --version", { folder: "/", env: clone.env });
  return stdout.includes("util-linux");
}

function isTaken(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "localhost", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
