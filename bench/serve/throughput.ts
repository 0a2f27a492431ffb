import { type Contest, type ContestOptions, type MeasuredContest, measureContest } from "../contest.ts";
import { askOnce } from "../load/ask-once.ts";
import type { Load } from "../load/load.ts";
import { checkAnswers, createLoad, type Question, questionsOf } from "../load/questions.ts";
import { PROTOCOL_NAMES, PROTOCOLS, type ProtocolName } from "../load/requests.ts";
import type { Answers } from "../servers/bare.ts";
import type { ServerProcess } from "../servers/server-process.ts";
import type { StockAnswers } from "../servers/stock.ts";
import { openReferenceServers, type ReferenceServers } from "./reference-servers.ts";

/** The ceiling. */
export const BARE = "bare Node";
/** The floor. */
export const STOCK = "stock connect-node";

interface Asked {
  readonly protocol: ProtocolName;
  readonly name: string;
  readonly question: Question;
  readonly load: Load;
  /** The daemon's answer to the first body. */
  readonly answer: Uint8Array;
}

export interface ThroughputOptions extends ContestOptions {
  readonly onContest: (what: string) => void;
}

/** How many requests a second the daemon answers on one core, between Node itself and a framework as it comes. */
export async function measureThroughput(
  daemon: ServerProcess,
  { onContest, ...options }: ThroughputOptions,
): Promise<readonly MeasuredContest[]> {
  const asked = await askAll(daemon.port);
  await using references = await openReferenceServers({
    bare: bareAnswers(asked),
    stock: stockAnswers(asked),
    folder: options.folder,
  });
  await checkReferences(asked, references);
  const measured: MeasuredContest[] = [];
  for (const [i, one] of asked.entries()) {
    onContest(`${one.protocol}, ${one.name}`);
    measured.push(await measureContest(toContest(one, i, { daemon, references }), options));
  }
  return measured;
}

async function askAll(port: number): Promise<readonly Asked[]> {
  const asked: Asked[] = [];
  for (const protocol of PROTOCOL_NAMES)
    for (const [name, question] of questionsOf(protocol)) {
      const load = createLoad(protocol, question);
      const answer = await checkAnswers(port, load, { protocol, question });
      asked.push({ protocol, name, question, load, answer });
    }
  return asked;
}

/** A bare server knows what to write by the number that is added to the path. */
function barePath({ path }: Load, i: number): string {
  return `${path}?${i}`;
}

function bareAnswers(asked: readonly Asked[]): Answers {
  return Object.fromEntries(
    asked.map(({ protocol, load, answer }, i) => {
      const { headers } = PROTOCOLS[protocol];
      const contentType = "Content-Type" in headers ? headers["Content-Type"] : headers["content-type"];
      return [barePath(load, i), { contentType, base64: Buffer.from(answer).toString("base64") }];
    }),
  );
}

function stockAnswers(asked: readonly Asked[]): StockAnswers {
  const [one, many] = [false, true].map((isBulk) => {
    const found = asked.find(
      ({ protocol, question }) => protocol === "Connect proto" && question.isBulk === isBulk,
    );
    return Buffer.from(found?.answer ?? []).toString("base64");
  });
  return { evaluate: one ?? "", bulkEvaluate: many ?? "" };
}

function referencesFor(protocol: ProtocolName, { servers }: ReferenceServers) {
  return PROTOCOLS[protocol].with === "wrk"
    ? { bare: servers["bare-http1"], stock: servers["stock-http1"] }
    : { bare: servers["bare-http2"], stock: servers["stock-http2"] };
}

/** What they are compared with must do its work too. */
async function checkReferences(asked: readonly Asked[], references: ReferenceServers): Promise<void> {
  for (const [i, { protocol, question, load, answer }] of asked.entries()) {
    const { bare, stock } = referencesFor(protocol, references);
    const written = await askOnce(
      bare.port,
      { ...load, path: barePath(load, i) },
      load.bodies[0] ?? new Uint8Array(),
    );
    if (!Buffer.from(written).equals(answer))
      throw new Error(`Cannot measure: the bare server wrote something else for ${load.path}`);
    if (question.entityIds.includes("")) await checkAnswers(stock.port, load, { protocol, question });
  }
}

function toContest(
  { protocol, name, load }: Asked,
  i: number,
  { daemon, references }: { readonly daemon: ServerProcess; readonly references: ReferenceServers },
): Contest {
  const { bare, stock } = referencesFor(protocol, references);
  return {
    protocol,
    question: name,
    contenders: new Map([
      [BARE, { server: bare, load: { ...load, path: barePath(load, i) } }],
      ["pbflagd", { server: daemon, load }],
      [STOCK, { server: stock, load }],
    ]),
  };
}
