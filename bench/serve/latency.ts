import { Opened } from "../../src/system/opened.ts";
import { through } from "../../test/daemon/scene.ts";
import { eventually } from "../../test/support/eventually.ts";
import { openTcpProxy } from "../../test/support/tcp-proxy.ts";
import { interleave } from "../interleave.ts";
import { askOnce } from "../load/ask-once.ts";
import type { Paced } from "../load/pace.ts";
import { openPacedLoad } from "../load/paced-load.ts";
import { createLoad, singleEntities } from "../load/questions.ts";
import { rememberEntities } from "../load/remember-entities.ts";
import { toPacedRequests } from "../load/to-paced-requests.ts";
import { type ServerProcess, startDaemon } from "../servers/server-process.ts";
import { startChanges } from "../steady-changes.ts";
import { startReference } from "./reference-servers.ts";

/** Short, so that much of what is asked for falls stale within a run. */
const TTLS = ["--cache-kill-ttl", "5s", "--cache-flag-ttl", "5s", "--cache-override-ttl", "30s"];

const CHANGES_PER_SECOND = 100;
/** Flags that nobody asks for: of each feature the first string. */
const CHANGED_FLAGS = Array.from({ length: 100 }, (_, i) => `feature-${i}/2`);

export interface LatencyOptions {
  /** Of the database. */
  readonly url: string;
  readonly descriptors: string;
  readonly requestsPerSecond: number;
  readonly rounds: number;
  readonly seconds: number;
  readonly folder: string;
}

export interface MeasuredLatency extends Paced {
  readonly cpuMicrosPerRequest: number;
  readonly residentBytes: number;
}

/** What the ratios are to. */
export const UNDISTURBED = "pbflagd";

/** How long answers take at a fixed rate, whatever becomes of the database: by what happens meanwhile, a result a round. */
export async function measureLatency(
  options: LatencyOptions,
): Promise<ReadonlyMap<string, readonly MeasuredLatency[]>> {
  const { url, descriptors, requestsPerSecond: perSecond, rounds, seconds, folder } = options;
  await using opened = new Opened();
  const proxy = opened.add(await openTcpProxy(Number(new URL(url).port)));
  const database = through(proxy, url);
  const daemon = opened.add(await startDaemon("--descriptors", descriptors, "--database", database, ...TTLS));
  const paced = opened.add(openPacedLoad());
  const load = createLoad("Connect proto", singleEntities);
  const answer = await askOnce(daemon.port, load, load.bodies[0] ?? new Uint8Array());
  const [contentType, base64] = ["application/proto", Buffer.from(answer).toString("base64")];
  const bare = opened.add(
    await startReference("bare-http1", { [load.path]: { contentType, base64 } }, { folder }),
  );
  await rememberEntities(daemon.port);

  const requests = toPacedRequests(load, singleEntities);
  const run = async (server: ServerProcess, runSeconds = seconds): Promise<MeasuredLatency> => {
    const before = await server.usage();
    const expected = server === bare ? requests.map(({ text }) => ({ text, expects: "" })) : requests;
    const result = await paced.run({ port: server.port, requests: expected, perSecond, seconds: runSeconds });
    const { cpuSeconds, residentBytes } = await server.usage();
    return {
      ...result,
      cpuMicrosPerRequest: (1e6 * (cpuSeconds - before.cpuSeconds)) / result.count,
      residentBytes,
    };
  };

  const variants = new Map<string, () => Promise<MeasuredLatency>>([
    ["bare node:http", () => run(bare)],
    [UNDISTURBED, () => run(daemon)],
    [
      "the database is down",
      async () => {
        proxy.cut();
        return await run(daemon);
      },
    ],
    [
      "it comes back",
      async () => {
        proxy.restore();
        return await run(daemon);
      },
    ],
    [
      `${CHANGES_PER_SECOND} changes a second`,
      async () => {
        await whenFed(daemon);
        await using _ = startChanges(url, { flagIds: CHANGED_FLAGS, perSecond: CHANGES_PER_SECOND });
        return await run(daemon);
      },
    ],
  ]);
  for (const server of [bare, daemon]) await run(server);
  return await interleave(variants, { rounds, measure: (variant) => variant() });
}

/** Resolves once changes are told to the daemon. */
async function whenFed({ port }: ServerProcess): Promise<void> {
  const isFed = async () => {
    const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    return /^pbflags_feed_connected 1$/m.test(metrics);
  };
  await eventually(isFed, { timeoutMs: 60_000, what: "changes are told to the daemon" });
}
