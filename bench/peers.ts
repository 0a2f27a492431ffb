import { parseArgs } from "node:util";
import { Opened } from "../src/system/opened.ts";
import { openBenchDatabase } from "./bench-database.ts";
import { type Contender, describeContests, type MeasuredContest, measureContest } from "./contest.ts";
import { questionsOf } from "./load/questions.ts";
import { PROTOCOL_NAMES, type ProtocolName } from "./load/requests.ts";
import { requireTools } from "./load/tools.ts";
import { describeMachine } from "./machine.ts";
import { describeLeads } from "./peers/leads.ts";
import { OURS, openPeers } from "./peers/open-peers.ts";
import type { Peer } from "./peers/peer.ts";
import { ENTITY_COUNT, FLAG_COUNT, furnish } from "./scene.ts";
import { pinThisProcess } from "./servers/cores.ts";
import { wholeNumber } from "./whole-number.ts";

// What other evaluators do on the same core with the same flags, asked in turn with ours. Their programs are those that
// are installed; each is asked in its own protocol where it has another one.

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    seconds: { type: "string" },
  },
});
const rounds = wholeNumber("rounds", options.rounds ?? (options.quick ? "2" : "5"));
const seconds = wholeNumber("seconds", options.seconds ?? (options.quick ? "1" : "10"));
const warmUpSeconds = options.quick ? 1 : 5;

await requireTools("taskset", "wrk", "h2load");
await pinThisProcess();
await using bench = await openBenchDatabase();
const { url, folder } = bench;
const descriptors = await furnish(bench);
await using opened = new Opened();
const peers = await openPeers({ url, descriptors, folder }, { opened });

const contests: MeasuredContest[] = [];
for (const protocol of PROTOCOL_NAMES)
  for (const question of questionsOf(protocol).keys()) {
    const contenders = await contendersFor(protocol, question, peers);
    console.log(`${protocol}, ${question} …`);
    contests.push(
      await measureContest({ protocol, question, contenders }, { rounds, seconds, warmUpSeconds, folder }),
    );
  }

const size = `${FLAG_COUNT} flags, ${ENTITY_COUNT} entities, ${rounds} rounds of ${seconds} s`;
console.log(`\n${describeMachine()}, ${size}\n`);
console.log(describeContests(contests, { ratiosTo: [OURS] }));
console.log(`\nWhere a peer is ahead:\n\n${describeLeads(contests, OURS).join("\n") || "nowhere"}`);

async function contendersFor(
  protocol: ProtocolName,
  question: string,
  peers: readonly Peer[],
): Promise<ReadonlyMap<string, Contender>> {
  const contenders = new Map<string, Contender>();
  for (const peer of peers) {
    const load = await peer.askedFor(protocol, question);
    if (load !== undefined) contenders.set(peer.name, { server: peer.server, load });
  }
  return contenders;
}
