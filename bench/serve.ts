import { parseArgs } from "node:util";
import { openBenchDatabase } from "./bench-database.ts";
import { describeContests } from "./contest.ts";
import { PACED_LOAD_OPTION, servePacedLoad } from "./load/paced-load.ts";
import { rememberEntities } from "./load/remember-entities.ts";
import { requireTools } from "./load/tools.ts";
import { describeMachine } from "./machine.ts";
import { ENTITY_COUNT, FLAG_COUNT, furnish } from "./scene.ts";
import { measureLatency } from "./serve/latency.ts";
import { describeLatencies } from "./serve/latency-table.ts";
import { serveReference } from "./serve/reference-servers.ts";
import { BARE, measureThroughput, STOCK } from "./serve/throughput.ts";
import { pinThisProcess } from "./servers/cores.ts";
import { startDaemon } from "./servers/server-process.ts";
import { wholeNumber } from "./whole-number.ts";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    seconds: { type: "string" },
    rate: { type: "string", default: "5000" },
    only: { type: "string" },
    // For the processes of the servers it is compared with, which this one starts.
    reference: { type: "string" },
    answers: { type: "string", default: "" },
    // For the process that sends requests at their times.
    [PACED_LOAD_OPTION]: { type: "boolean", default: false },
  },
});

const PARTS = ["throughput", "latency"];

if (options[PACED_LOAD_OPTION]) servePacedLoad();
else if (options.reference !== undefined) await serveReference(options.reference, options.answers);
else await main();

async function main(): Promise<void> {
  const rounds = wholeNumber("rounds", options.rounds ?? (options.quick ? "2" : "5"));
  const seconds = wholeNumber("seconds", options.seconds ?? (options.quick ? "1" : "10"));
  const requestsPerSecond = wholeNumber("rate", options.rate);
  const parts = options.only === undefined ? PARTS : [options.only];
  if (!parts.every((part) => PARTS.includes(part)))
    throw new Error(`Cannot measure: --only must be one of ${PARTS.join(", ")}, got "${options.only}"`);
  await requireTools("taskset", "wrk", "h2load");
  await pinThisProcess();
  await using bench = await openBenchDatabase();
  const { url, folder } = bench;
  const descriptors = await furnish(bench);
  const size = `${FLAG_COUNT} flags, ${ENTITY_COUNT} entities, ${rounds} rounds of ${seconds} s`;

  if (parts.includes("throughput")) {
    await using daemon = await startDaemon("--descriptors", descriptors, "--database", url);
    await rememberEntities(daemon.port);
    const contests = await measureThroughput(daemon, {
      rounds,
      seconds,
      warmUpSeconds: options.quick ? 1 : 5,
      folder,
      onContest: (what) => console.log(`${what} …`),
    });
    console.log(`\n${describeMachine()}, ${size}\n`);
    console.log(describeContests(contests, { ratiosTo: [BARE, STOCK] }));
  }
  if (parts.includes("latency")) {
    console.log(`${requestsPerSecond} requests a second …`);
    const measured = await measureLatency({ url, descriptors, requestsPerSecond, rounds, seconds, folder });
    console.log(`\n${describeMachine()}, ${size}, ${requestsPerSecond} requests a second\n`);
    console.log(describeLatencies(measured));
  }
}
