import { parseArgs } from "node:util";
import { openBenchDatabase } from "./bench-database.ts";
import { openPacedLoad, PACED_LOAD_OPTION, servePacedLoad } from "./load/paced-load.ts";
import { createLoad, singleEntities } from "./load/questions.ts";
import { rememberEntities } from "./load/remember-entities.ts";
import { expectAnything, toPacedRequests } from "./load/to-paced-requests.ts";
import { requireTools } from "./load/tools.ts";
import { describeMachine } from "./machine.ts";
import { CHANGED_FLAGS, ENTITY_COUNT, FLAG_COUNT, furnish } from "./scene.ts";
import { serveReference, startBareLike } from "./serve/reference-servers.ts";
import { pinThisProcess } from "./servers/cores.ts";
import { type ServerProcess, startDaemon } from "./servers/server-process.ts";
import { type WatchedMemory, watchMemory } from "./soak/watch-memory.ts";
import { startChanges } from "./steady-changes.ts";
import { toTable } from "./table.ts";
import { wholeNumber } from "./whole-number.ts";

// Whether memory grows under load that goes on, and how far it is above that of a bare server.

const { values: options } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    rate: { type: "string", default: "2000" },
    // For the processes that this one starts.
    reference: { type: "string" },
    answers: { type: "string", default: "" },
    [PACED_LOAD_OPTION]: { type: "boolean", default: false },
  },
});

/** More is a failure. */
const GROWTH_MAX = 0.05;
const ABOVE_BARE_MAX_BYTES = 60 * 2 ** 20;

const CHANGES_PER_SECOND = 5;

if (options[PACED_LOAD_OPTION]) servePacedLoad();
else if (options.reference !== undefined) await serveReference(options.reference, options.answers);
else await main();

async function main(): Promise<void> {
  const seconds = 60 * wholeNumber("minutes", options.minutes);
  const perSecond = wholeNumber("rate", options.rate);
  await requireTools("taskset");
  await pinThisProcess();
  await using bench = await openBenchDatabase();
  const { url, folder } = bench;
  const descriptors = await furnish(bench);
  await using daemon = await startDaemon("--descriptors", descriptors, "--database", url);
  const load = createLoad("Connect proto", singleEntities);
  await using bare = await startBareLike(daemon.port, load, { folder });
  await rememberEntities(daemon.port);
  await using paced = openPacedLoad();
  const requests = toPacedRequests(load, singleEntities);

  const soak = async (name: string, server: ServerProcess, sent: typeof requests): Promise<Soaked> => {
    console.log(`${name}, ${options.minutes} min …`);
    const run = () => paced.run({ port: server.port, requests: sent, perSecond, seconds });
    const [{ wrong, latencyMs }, memory] = await watchMemory(server, run);
    return { name, memory, wrong, p99: latencyMs.p99 };
  };
  const ofBare = await soak("bare node:http", bare, requests.map(expectAnything));
  await using _ = startChanges(url, { flagIds: CHANGED_FLAGS, perSecond: CHANGES_PER_SECOND });
  const ours = await soak("pbflagd", daemon, requests);

  const size = `${FLAG_COUNT} flags, ${ENTITY_COUNT} entities, ${perSecond} requests and ${CHANGES_PER_SECOND} changes a second, ${options.minutes} min each`;
  console.log(`\n${describeMachine()}, ${size}\n\n${describeSoaked([ofBare, ours])}`);
  const problems = [...findProblems(ours, ofBare)];
  for (const problem of problems) console.error(`\n${problem}`);
  if (problems.length > 0) process.exitCode = 1;
}

interface Soaked {
  readonly name: string;
  readonly memory: WatchedMemory;
  readonly wrong: number;
  readonly p99: number;
}

function growthOf({ early, late }: WatchedMemory): number {
  return late / early - 1;
}

function describeSoaked(soaked: readonly Soaked[]): string {
  const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  return toTable(
    ["Server", "RSS MiB, second fifth", "last fifth", "growth %", "max", "p99 ms", "missing or wrong"],
    soaked.map(({ name, memory, wrong, p99 }) => [
      ...[name, mebibytes(memory.early), mebibytes(memory.late)],
      ...[(100 * growthOf(memory)).toFixed(1), mebibytes(memory.max), p99.toFixed(2), String(wrong)],
    ]),
  );
}

function* findProblems(ours: Soaked, bare: Soaked): Iterable<string> {
  const growth = growthOf(ours.memory);
  if (growth >= GROWTH_MAX) yield `pbflagd grew by ${(100 * growth).toFixed(1)} %, 5 or more`;
  const above = ours.memory.late - bare.memory.late;
  if (above > ABOVE_BARE_MAX_BYTES)
    yield `pbflagd holds ${(above / 2 ** 20).toFixed(0)} MiB more than a bare server, over 60`;
  if (ours.wrong > 0) yield `${ours.wrong} answers were missing or wrong`;
}
