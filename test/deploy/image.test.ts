import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { connectDatabase } from "../../src/store/database.ts";
import { findFreePort } from "../../src/store/embedded/free-port.ts";
import { runInShell } from "../readme/shell.ts";
import { eventually } from "../support/eventually.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { loadCompose } from "./compose.ts";
import { type Image, openImage } from "./image.ts";

const { services, commands } = await loadCompose();

let image: Image;
let database: TestDatabase;
let ports: Readonly<Record<string, number>>;
const running = new Map<string, ChildProcess>();

beforeAll(async () => {
  image = await openImage();
  database = await createTestDatabase({ migrated: false });
  ports = { root: await findFreePort(undefined), proxy: await findFreePort(undefined) };
  await cp(await makeDescriptors(), image.path("/etc/pbflagd/descriptors"), { recursive: true });
});

afterAll(async () => {
  for (const child of running.values()) child.kill("SIGKILL");
  await image?.[Symbol.asyncDispose]();
  await database?.[Symbol.asyncDispose]();
});

test("migrate creates the schema, and has nothing to do when it runs again", async () => {
  expect(await run("migrate")).toMatchObject({ code: 0, stdout: expect.stringContaining("Applied 0001") });
  expect(await run("migrate")).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("0 migrations applied"),
  });
});

test("sync creates the flags, and finds them unchanged when it runs again", async () => {
  const first = await run("sync");
  expect(first).toMatchObject({ code: 0, stderr: "" });
  expect(first.stdout).toMatch(/^created {3}notifications\/1$/m);
  const { stdout } = await run("sync");
  expect(stdout).toMatch(/^Synced: 0 created, 0 updated, 0 archived, 0 restored, [1-9]\d* unchanged/m);
});

test("the health command says no while nobody serves", async () => {
  expect((await checkHealth("root")).code).toBe(3);
});

test("the root becomes healthy, and then the proxy", async () => {
  for (const service of ["root", "proxy"]) {
    start(service);
    await eventually(async () => (await checkHealth(service)).code === 0, {
      timeoutMs: 30_000,
      what: `${service} is healthy`,
    });
    expect(await checkHealth(service)).toEqual({ code: 0, stdout: "ready\n", stderr: "" });
  }
});

test("the proxy answers as the root does", async () => {
  const fromRoot = await evaluateAll("root");
  expect(fromRoot.length).toBeGreaterThan(3);
  expect(await evaluateAll("proxy")).toEqual(fromRoot);
});

test("a kill in the database reaches the proxy", async () => {
  const [, kill = ""] = /psql .*-c "(.*)"/.exec(commands.join("\n")) ?? [];
  await using connection = await connectDatabase({ url: database.url });
  await connection.query(kill);
  for (const service of ["root", "proxy"]) {
    const isKilled = async () => (await evaluate(service, "notifications/1")).source.endsWith("KILLED");
    await eventually(isKilled, { what: `${service} knows of the kill` });
  }
  expect(await evaluateAll("proxy")).toEqual(await evaluateAll("root"));
});

test("docker stop ends both with exit code 0", async () => {
  for (const service of ["proxy", "root"]) {
    const child = running.get(service);
    child?.kill("SIGTERM");
    expect(child === undefined ? undefined : await once(child, "exit")).toEqual([0, null]);
  }
});

test("these were all services that run the image", () => {
  const built = Object.entries(services).filter(([, { build }]) => build !== undefined);
  expect(built.map(([name]) => name).toSorted()).toEqual(["migrate", "proxy", "root", "sync"]);
});

interface Evaluation {
  readonly flagId: string;
  readonly source: string;
}

/** Makes `descriptors/` as the comment at the top of docker-compose.yml says. */
async function makeDescriptors(): Promise<string> {
  const folder = join(inject("runFolder"), "compose");
  await mkdir(folder, { recursive: true });
  for (const part of ["examples", "proto", "buf.yaml", "node_modules"]) {
    await symlink(new URL(`../../${part}`, import.meta.url).pathname, join(folder, part));
  }
  const { code, stderr } = await runInShell(commands[0] ?? "", { folder, env: inheritedEnvironment() });
  if (code !== 0) throw new Error(`Cannot make the descriptors: ${stderr}`);
  return join(folder, "descriptors");
}

function inheritedEnvironment(): Readonly<Record<string, string>> {
  return { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "" };
}

/** What compose sets for a service, with the names of its network and its mounts as they are here. */
function environmentOf(service: string): Record<string, string> {
  const { environment = {} } = services[service] ?? {};
  const port = ports[service];
  return {
    ...Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, translate(value)])),
    ...(port === undefined ? {} : { PBFLAGS_LISTEN: `127.0.0.1:${port}` }),
    PBFLAGS_CACHE_KILL_TTL: "100ms",
  };
}

function translate(value: string): string {
  return value
    .replace(/^postgres:.*@postgres:5432\/pbflagd$/, database.url)
    .replace(/^http:\/\/root:9201$/, `http://127.0.0.1:${ports["root"]}`)
    .replace(/^\/etc\/pbflagd\//, image.path("/etc/pbflagd/"));
}

function argumentsOf(service: string): readonly string[] {
  return (services[service]?.command ?? []).map(translate);
}

async function run(service: string) {
  return finished(image.spawn(argumentsOf(service), environmentOf(service)));
}

async function checkHealth(service: string) {
  const [, ...args] = image.healthCommand;
  return finished(image.spawn(args, environmentOf(service)));
}

async function finished(child: ChildProcess) {
  const [[code], stdout, stderr] = await Promise.all([
    once(child, "close"),
    child.stdout === null ? "" : text(child.stdout),
    child.stderr === null ? "" : text(child.stderr),
  ]);
  return { code, stdout, stderr };
}

function start(service: string): void {
  const child = image.spawn(argumentsOf(service), environmentOf(service));
  child.stdout?.resume();
  child.stderr?.resume();
  running.set(service, child);
}

async function evaluate(service: string, flagId: string): Promise<Evaluation> {
  return (await call(service, "Evaluate", { flagId })) as Evaluation;
}

async function evaluateAll(service: string): Promise<readonly Evaluation[]> {
  const answer = (await call(service, "BulkEvaluate", {})) as { evaluations: Evaluation[] };
  return answer.evaluations.toSorted((a, b) => (a.flagId < b.flagId ? -1 : 1));
}

async function call(service: string, method: string, request: object): Promise<unknown> {
  const url = `http://127.0.0.1:${ports[service]}/pbflags.v1.FlagEvaluatorService/${method}`;
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
  });
  const answer: unknown = await response.json();
  if (!response.ok) throw new Error(`${method} at ${service}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}
