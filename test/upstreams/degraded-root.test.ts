import { afterAll, beforeAll, expect, test } from "vitest";
import {
  few,
  IMPATIENTLY,
  mixed,
  NONE,
  openScene,
  rightValue,
  type Scene,
  serveArgs,
  through,
  valueOf,
} from "../daemon/scene.ts";
import { openConfigFile } from "../support/config-file.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { listUpstreams } from "../support/list-upstreams.ts";
import { http1Sender, type Question, startLoad } from "../support/load.ts";
import { openTestPostgres, type TestPostgres } from "../support/postgres.ts";
import { poolFile } from "../support/proxies.ts";
import { size } from "../support/size.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";

const OUTAGE_S = size(8, 60);
const REQUESTS_PER_SECOND = size(50, 400);
/** Entities with an override of their own that nobody has asked about. */
const PEOPLE = 150;
/** A root finds its database within five seconds, and its proxy polls every second; a busy machine takes longer. */
const RETURN_MS = 40_000;

let postgres: TestPostgres;
let scene: Scene;
let root: TestDaemon;

beforeAll(async () => {
  postgres = await openTestPostgres();
  scene = await openScene({ url: postgres.url });
  await scene.sql(
    `INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, state, value)
     SELECT 'shop/2', 'person-' || n, 'ENABLED', '\\x0800' FROM generate_series(0, $1::int - 1) AS n`,
    [PEOPLE],
  );
  root = await startDaemon({ args: [...serveArgs(postgres.url, scene), ...IMPATIENTLY] });
  await root.whenReady();
}, 60_000);

afterAll(async () => {
  for (const each of [root, scene, postgres]) await each[Symbol.asyncDispose]();
});

/** A proxy that does not take a busy machine for an upstream that is away. */
async function openProxy(servers: readonly { readonly name: string; readonly url: string }[]) {
  const file = await openConfigFile(poolFile(scene, servers));
  const proxy = await startDaemon({ args: ["--config", file.path] });
  await proxy.whenReady();
  await eventually(() => proxy.log.some(({ event }) => event === "feed_connected"));
  return {
    proxy,
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await file[Symbol.asyncDispose]();
    },
  };
}

let quota = 10;

test.each([
  { away: "stopped", leave: () => postgres.stop(), comeBack: () => postgres.start() },
  { away: "frozen", leave: () => postgres.freeze(), comeBack: () => postgres.thaw() },
])(
  "while the root's database is $away, its proxy says so once and goes on: upstream, feed and kills stay",
  async ({ leave, comeBack }) => {
    await using opened = await openProxy([{ name: "root", url: root.url }]);
    const { proxy } = opened;
    let isAway = false;
    const sender = http1Sender(proxy.port);
    const load = startLoad({ requestsPerSecond: REQUESTS_PER_SECOND, ask: mixed, sender });
    try {
      await eventually(() => load.replies.length > REQUESTS_PER_SECOND);
      const linesBefore = proxy.log.length;
      const events = () => proxy.log.slice(linesBefore).map(({ event }) => event);
      isAway = true;
      await leave();
      const repliesBefore = load.replies.length;
      await eventually(() => load.replies.length >= repliesBefore + OUTAGE_S * REQUESTS_PER_SECOND, {
        timeoutMs: OUTAGE_S * 1_000 + 20_000,
        what: "so many are answered while it is away",
      });
      expect(events()).toEqual(["upstream_degraded"]);
      expect(await listUpstreams(proxy)).toMatchObject({
        root: { state: "up", status: "degraded", breaker: "closed" },
      });
      expect(await proxy.evaluate("shop/4")).toMatchObject({ source: "EVALUATION_SOURCE_KILLED" });
      expect((await proxy.readiness()).checks["state"]).toMatchObject({
        healthy: false,
        message: expect.stringContaining("the store has not been heard since"),
      });

      await comeBack();
      isAway = false;
      quota += 1;
      await scene.operate((store) => store.setValue("shop/6", String(quota)));
      await eventually(async () => valueOf(await proxy.evaluate("shop/6")) === `{"int64Value":"${quota}"}`, {
        timeoutMs: RETURN_MS,
        what: "what has changed is known",
      });
      await eventually(() => events().includes("upstream_recovered"));
      expect(events()).toEqual(["upstream_degraded", "upstream_recovered"]);
      expect((await proxy.readiness()).checks["state"]).toMatchObject({ healthy: true });
      // shop/6 is another after the outage than before.
      const replies = (await load.stop()).filter(({ question }) => question.flagId !== "shop/6");
      const isRight = ({ status, question, value }: (typeof replies)[number]) =>
        status === 200 && value === rightValue(question);
      expect(few(replies.filter((reply) => !isRight(reply)))).toEqual(NONE);
    } finally {
      if (isAway) await comeBack();
      await load.stop();
    }
  },
  OUTAGE_S * 1_000 + 60_000,
);

test("while one of two roots is cut off from the database, whatever is asked is read from the other", async () => {
  await using way = await openTcpProxy(postgres.port);
  await using cutOff = await startDaemon({ args: serveArgs(through(way, postgres.url), scene) });
  await cutOff.whenReady();
  await using opened = await openProxy([
    { name: "cut-off", url: cutOff.url },
    { name: "well", url: root.url },
  ]);
  const { proxy } = opened;
  way.cut();
  // Before and after the proxy hears of it.
  const ask = (n: number): Question => ({ flagId: "shop/2", entityId: `person-${n}` });
  for (let n = 0; n < PEOPLE; n += 1) {
    const { flagId, entityId } = ask(n);
    expect(await proxy.evaluate(flagId, entityId), entityId).toMatchObject({
      value: { boolValue: false },
      source: "EVALUATION_SOURCE_OVERRIDE",
    });
  }
  await eventually(() => proxy.log.some(({ event }) => event === "upstream_degraded"));
  expect(await listUpstreams(proxy)).toMatchObject({
    "cut-off": { state: "up", status: "degraded" },
    well: { state: "up", status: "serving" },
  });
  way.restore();
  await eventually(() => proxy.log.some(({ event }) => event === "upstream_recovered"), {
    timeoutMs: RETURN_MS,
  });
}, 60_000);
