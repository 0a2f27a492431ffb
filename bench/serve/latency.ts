import { Opened } from "../../src/system/opened.ts";
import { through } from "../../test/daemon/scene.ts";
import { eventually } from "../../test/support/eventually.ts";
import { openTcpProxy, type TcpProxy } from "../../test/support/tcp-proxy.ts";
import { interleave } from "../interleave.ts";
import type { Paced } from "../load/pace.ts";
import { openPacedLoad } from "../load/paced-load.ts";
import { createLoad, singleEntities } from "../load/questions.ts";
import { rememberEntities } from "../load/remember-entities.ts";
import { expectAnything, toPacedRequests } from "../load/to-paced-requests.ts";
import { CHANGED_FLAGS } from "../scene.ts";
import { type ServerProcess, startDaemon } from "../servers/server-process.ts";
import { startChanges } from "../steady-changes.ts";
import { startBareLike } from "./reference-servers.ts";

/** Short, so that much of what is asked for falls stale within a run. */
const TTLS = ["--cache-kill-ttl", "5s", "--cache-flag-ttl", "5s", "--cache-override-ttl", "30s"];

const CHANGES_PER_SECOND = 100;
/** Of those, what has to be committed for the row to say what it says. */
const CHANGES_MIN_SHARE = 0.9;

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
  const bare = opened.add(await startBareLike(daemon.port, load, { folder }));
  await rememberEntities(daemon.port);

  const requests = toPacedRequests(load, singleEntities);
  const send = async (server: ServerProcess, sent: typeof requests): Promise<MeasuredLatency> => {
    const before = await server.usage();
    const result = await paced.run({ port: server.port, requests: sent, perSecond, seconds });
    const { cpuSeconds, residentBytes } = await server.usage();
    return {
      ...result,
      cpuMicrosPerRequest: (1e6 * (cpuSeconds - before.cpuSeconds)) / result.count,
      residentBytes,
    };
  };
  const askBare = () => send(bare, requests.map(expectAnything));
  const ask = () => send(daemon, requests);
  await askBare();
  await ask();
  return await interleave(createPhases({ url, proxy, daemon, askBare, ask }), {
    rounds,
    measure: (phase) => phase(),
  });
}

interface PhaseParts {
  /** Of the database, past the proxy. */
  readonly url: string;
  readonly proxy: TcpProxy;
  readonly daemon: ServerProcess;
  readonly askBare: () => Promise<MeasuredLatency>;
  readonly ask: () => Promise<MeasuredLatency>;
}

/** What a round consists of, in this order: each finds the database as the one before has left it. */
function createPhases({ url, proxy, daemon, askBare, ask }: PhaseParts) {
  return new Map<string, () => Promise<MeasuredLatency>>([
    ["bare node:http", askBare],
    [UNDISTURBED, ask],
    [
      "the database is down",
      () => {
        proxy.cut();
        return ask();
      },
    ],
    [
      "it comes back",
      () => {
        proxy.restore();
        return ask();
      },
    ],
    [
      `${CHANGES_PER_SECOND} changes a second`,
      async () => {
        await whenFed(daemon);
        await using changes = startChanges(url, { flagIds: CHANGED_FLAGS, perSecond: CHANGES_PER_SECOND });
        const [startedAt, before] = [performance.now(), changes.count];
        const measured = await ask();
        const perSecond = (1_000 * (changes.count - before)) / (performance.now() - startedAt);
        if (perSecond < CHANGES_MIN_SHARE * CHANGES_PER_SECOND)
          throw new Error(`Cannot measure: only ${perSecond.toFixed(0)} changes a second were committed`);
        return measured;
      },
    ],
    [
      "the database is silent",
      async () => {
        proxy.drop();
        const measured = await ask();
        // The next round begins with a database that is well.
        proxy.restore();
        await whenFed(daemon);
        await rememberEntities(daemon.port);
        return measured;
      },
    ],
  ]);
}

/** Resolves once changes are told to the daemon. */
async function whenFed({ port }: ServerProcess): Promise<void> {
  const isFed = async () => {
    const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    return /^pbflags_feed_connected 1$/m.test(metrics);
  };
  await eventually(isFed, { timeoutMs: 60_000, what: "changes are told to the daemon" });
}
