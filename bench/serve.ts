import { parseArgs } from "node:util";
import { openBenchDatabase } from "./bench-database.ts";
import { describeContests } from "./contest.ts";
import { rememberEntities } from "./load/remember-entities.ts";
import { requireTools } from "./load/tools.ts";
import { describeMachine } from "./machine.ts";
import { ENTITY_COUNT, FLAG_COUNT, furnish } from "./scene.ts";
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
    // For the processes of the servers it is compared with, which this one starts.
    reference: { type: "string" },
    answers: { type: "string", default: "" },
  },
});

if (options.reference === undefined) await main();
else await serveReference(options.reference, options.answers);

async function main(): Promise<void> {
  const rounds = wholeNumber("rounds", options.rounds ?? (options.quick ? "2" : "5"));
  const seconds = wholeNumber("seconds", options.seconds ?? (options.quick ? "1" : "10"));
  const warmUpSeconds = options.quick ? 1 : 5;
  await requireTools("taskset", "wrk", "h2load");
  await pinThisProcess();
  await using bench = await openBenchDatabase();
  const { url, folder } = bench;
  const descriptors = await furnish(bench);
  await using daemon = await startDaemon("--descriptors", descriptors, "--database", url);
  await rememberEntities(daemon.port);
  const contests = await measureThroughput(daemon, {
    rounds,
    seconds,
    warmUpSeconds,
    folder,
    onContest: (what) => console.log(`${what} …`),
  });
  const size = `${FLAG_COUNT} flags, ${ENTITY_COUNT} entities, ${rounds} rounds of ${seconds} s`;
  console.log(`\n${describeMachine()}, ${size}\n`);
  console.log(describeContests(contests, { ratiosTo: [BARE, STOCK] }));
}
