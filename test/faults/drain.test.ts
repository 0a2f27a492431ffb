import { Agent, get } from "node:http";
import { setTimeout } from "node:timers/promises";
import { expect, test } from "vitest";
import {
  familiar,
  few,
  mixed,
  NONE,
  openScene,
  type Scene,
  serveArgs,
  through,
  wrongReplies,
} from "../daemon/scene.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import {
  describeLatencies,
  http1Sender,
  http2Sender,
  NOT_LET_IN,
  type Reply,
  startLoad,
} from "../support/load.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { size } from "../support/size.ts";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

// Fault 15.

const rounds = size(3, 20);

test(`SIGTERM at load, ${rounds} times: not ready first, what runs is finished, and then nobody is let in`, async () => {
  await using database = await createTestDatabase();
  await using scene = await openScene(database);
  await using proxy = await openTcpProxy(Number(new URL(database.url).port));
  for (let round = 0; round < rounds; round++) {
    expect(await drainOnce(scene, proxy, database.url)).toBe(0);
  }
}, 240_000);

/** Resolves with the exit code. */
async function drainOnce(scene: Scene, proxy: TcpProxy, url: string): Promise<number | null> {
  proxy.restore();
  const args = [...serveArgs(through(proxy, url), scene), "--cache-fetch-timeout", "5s"];
  await using daemon = await startDaemon({ args });
  await daemon.whenReady();
  for (const { flagId, entityId } of familiar) await daemon.evaluate(flagId, entityId);
  // A look-up takes a fifth of a second at least: some always wait for one.
  proxy.slow(100);

  const loads = [http1Sender(daemon.port), http2Sender(daemon.port)].map((sender) =>
    startLoad({ requestsPerSecond: 100, ask: mixed, sender }),
  );
  const probe = startProbe(daemon.port);
  // Warm, and keeping up: otherwise connections would wait to be let in, which nobody promised them.
  await eventually(
    () => loads.every(({ replies, pendingCount }) => replies.length > 100 && pendingCount < 25),
    { timeoutMs: 30_000, what: "the daemon keeps up" },
  );
  const stoppedAt = performance.now();
  const code = await daemon.stop();
  const endedAt = performance.now();
  // Long enough for some to find the door shut.
  await setTimeout(100);
  const replies = (await Promise.all(loads.map((load) => load.stop()))).flat();
  const words = await probe.stop();

  const answered = replies.filter(({ failure }) => failure === undefined);
  expect(wrongReplies(answered)).toEqual(NONE);
  const refused = replies.filter(({ failure }) => failure !== undefined);
  const isRefusal = ({ failure }: Reply) => failure === "ECONNREFUSED" || failure === NOT_LET_IN;
  expect(few(refused.filter((reply) => !isRefusal(reply)))).toEqual(NONE);
  expect(few(refused.filter(({ sentAt }) => sentAt < stoppedAt))).toEqual(NONE);
  expect(refused.length).toBeGreaterThan(0);
  // Some were under way when the signal came.
  const underWay = answered.filter(
    ({ sentAt, latencyMs }) => sentAt < stoppedAt && sentAt + latencyMs > stoppedAt,
  );
  expect(underWay.length).toBeGreaterThan(0);

  const firstNotReady = words.indexOf("503 draining");
  expect(firstNotReady).toBeGreaterThan(0);
  expect(new Set(words.slice(0, firstNotReady))).toEqual(new Set(["200 ready"]));
  expect(words.slice(firstNotReady)).not.toContain("200 ready");
  expect(daemon.log.filter(({ level }) => level === "error")).toEqual([]);
  expect(daemon.log.find(({ event }) => event === "stopping")).toMatchObject({ reason: "SIGTERM" });
  console.log(
    `drained in ${(endedAt - stoppedAt).toFixed(0)} ms, ${underWay.length} under way, ${refused.length} refused; ${describeLatencies(answered)}`,
  );
  return code;
}

/** Asks /readyz again and again, as an orchestrator with a connection of its own. */
function startProbe(port: number): { stop(): Promise<readonly string[]> } {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const stop = new AbortController();
  const words: string[] = [];
  const running = (async () => {
    while (!stop.signal.aborted) {
      words.push(await ask());
      await setTimeout(5);
    }
  })();

  function ask(): Promise<string> {
    return new Promise((resolve) => {
      const request = get({ agent, host: "127.0.0.1", port, path: "/readyz" }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
        });
        response.once("end", () => resolve(`${response.statusCode} ${JSON.parse(text).status}`));
      });
      request.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    });
  }

  return {
    async stop() {
      stop.abort();
      await running;
      agent.destroy();
      return words;
    },
  };
}
