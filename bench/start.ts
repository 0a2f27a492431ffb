import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { loadDescriptors } from "../src/flags/load-descriptors.ts";
import { syncDefinitions } from "../src/store/sync-definitions.ts";
import { systemClock } from "../src/system/clock.ts";
import { describeFlags, manyFeatures } from "../test/support/descriptors.ts";
import { openBenchDatabase } from "./bench-database.ts";
import { describeMachine } from "./machine.ts";
import { median, spread, toTable } from "./table.ts";

// How soon `pbflagd serve` is ready after it was started, and how much memory it then holds, beside a Node that only
// listens: what the runtime itself costs.

const { values: options } = parseArgs({
  options: {
    flags: { type: "string", default: "5000" },
    rounds: { type: "string", default: "9" },
    rest: { type: "string", default: "2" },
    main: { type: "string", default: new URL("../../dist/main.js", import.meta.url).pathname },
  },
});
const flagCount = Number(options.flags);
const rounds = Number(options.rounds);
/** How long after it became ready its memory is read. */
const restSeconds = Number(options.rest);
if (![flagCount, rounds, restSeconds].every((number) => Number.isInteger(number) && number > 0))
  throw new Error("Cannot measure: --flags, --rounds and --rest must be whole numbers above 0");

/** Between two probes of its readiness: answering them without a pause would be a good part of what it does. */
const PROBE_PAUSE_MS = 5;

/** Nothing that this shell happens to have: where NODE_EXTRA_CA_CERTS is set, Node reads all those certificates first. */
const ENV = { PATH: process.env["PATH"] };

const BARE = `const server = require("node:http").createServer((_, response) => response.end("ok"));
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ event: "serving", address: server.address() })));`;

interface Started {
  readonly listensMs: number;
  readonly readyMs: number;
  /** Processor time of its main thread until then. On a machine with other things to do, steadier than the time that passed. */
  readonly busyMs: number;
  readonly residentBytes: number;
}

async function start(args: readonly string[]): Promise<Started> {
  const startedAt = performance.now();
  const child = spawn(process.execPath, [...args], { env: ENV, stdio: ["ignore", "pipe", "inherit"] });
  try {
    const port = await servingPort(child);
    const listensMs = performance.now() - startedAt;
    while ((await fetch(`http://127.0.0.1:${port}/readyz`)).status !== 200)
      await systemClock.sleep(PROBE_PAUSE_MS);
    const readyMs = performance.now() - startedAt;
    const busyMs = await busyMsOf(child.pid ?? 0);
    await systemClock.sleep(restSeconds * 1_000);
    return { listensMs, readyMs, busyMs, residentBytes: await residentBytes(child.pid ?? 0) };
  } finally {
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    await exited;
  }
}

async function servingPort({ stdout }: ChildProcess): Promise<number> {
  if (stdout === null) throw new Error("Cannot follow a child without pipes");
  for await (const line of createInterface(stdout)) {
    const { event, address } = JSON.parse(line);
    if (event !== "serving") continue;
    stdout.resume();
    return address.port;
  }
  throw new Error("Cannot measure: it has ended before it served");
}

async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return 1_024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]);
}

async function busyMsOf(pid: number): Promise<number> {
  const [nanoseconds = ""] = (await readFile(`/proc/${pid}/task/${pid}/schedstat`, "utf8")).split(" ");
  return Number(nanoseconds) / 1e6;
}

/** A value of its own for each flag. */
const SET_VALUES = `
  SELECT feature_flags.set_value(flag_id, CASE flag_type
    WHEN 'BOOL' THEN (n % 2 = 0)::text WHEN 'STRING' THEN 'value ' || n WHEN 'DOUBLE' THEN n || '.5'
    WHEN 'INT64' THEN n::text WHEN 'BOOL_LIST' THEN '[true]' ELSE '{' || n || '}' END)
  FROM (SELECT flag_id, flag_type, row_number() OVER (ORDER BY flag_id) AS n FROM feature_flags.flags) AS f`;

async function main(): Promise<void> {
  await using untouched = await openBenchDatabase();
  await using valued = await openBenchDatabase();
  const descriptors = join(untouched.folder, "flags.pb");
  await writeFile(descriptors, describeFlags(manyFeatures(flagCount)));
  for (const { database } of [untouched, valued])
    await syncDefinitions(database, await loadDescriptors(descriptors), { actor: "bench" });
  await valued.database.query(SET_VALUES);
  const serve = [options.main, "serve", "--listen", "127.0.0.1:0", "--log-format", "json"];
  const variants = {
    "node:http, nothing else": ["-e", BARE],
    "serve, flags as sync made them": [...serve, "--descriptors", descriptors, "--database", untouched.url],
    "serve, a value for each flag": [...serve, "--descriptors", descriptors, "--database", valued.url],
  };
  const measured = new Map(Object.keys(variants).map((name) => [name, [] as Started[]]));
  const [[, alone = []] = []] = measured;
  for (let round = 0; round < rounds; round += 1)
    for (const [name, args] of Object.entries(variants)) measured.get(name)?.push(await start(args));
  console.log(`\n${describeMachine()}, ${flagCount} flags, ${rounds} rounds\n`);
  console.log(
    toTable(
      [
        "Variant",
        "listens after ms",
        "ready after ms",
        "min–max",
        "above Node alone ms",
        "of it busy ms",
        `RSS MiB ${restSeconds} s later`,
        "above Node alone MiB",
      ],
      [...measured].map(([name, starts]) => [
        name,
        median(starts.map(({ listensMs }) => listensMs)).toFixed(0),
        median(starts.map(({ readyMs }) => readyMs)).toFixed(0),
        spread(starts.map(({ readyMs }) => readyMs)),
        medianAbove(starts, alone, ({ readyMs }) => readyMs),
        median(starts.map(({ busyMs }) => busyMs)).toFixed(0),
        median(starts.map(({ residentBytes }) => residentBytes / 2 ** 20)).toFixed(0),
        medianAbove(starts, alone, ({ residentBytes }) => residentBytes / 2 ** 20),
      ]),
    ),
  );
}

/** Pair by pair: of each round by itself. */
function medianAbove(
  starts: readonly Started[],
  alone: readonly Started[],
  of: (started: Started) => number,
): string {
  const above = starts.map(
    (started, i) => of(started) - (alone[i] === undefined ? Number.NaN : of(alone[i])),
  );
  return median(above).toFixed(0);
}

await main();
