import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EvaluatorStatus } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { State } from "../../src/gen/pbflags/v1/types_pb.ts";
import { shop, valueOf } from "../daemon/scene.ts";
import { openConfigFile } from "../support/config-file.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { describeFlags } from "../support/descriptors.ts";
import { eventually } from "../support/eventually.ts";
import { listUpstreams } from "../support/list-upstreams.ts";
import { PlainEvaluator, type PlainRow } from "../support/plain-evaluator.ts";
import { poolFile, type ServerSettings, stateClient } from "../support/proxies.ts";
import { size } from "../support/size.ts";

const KILL_TTL_MS = 400;
const SOON = { timeout: 30_000, interval: 20 };

let folder: string;
let descriptors: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-plain-"));
  descriptors = join(folder, "flags.pb");
  await writeFile(descriptors, describeFlags(shop));
});

afterAll(() => rm(folder, { recursive: true }));

function row(value: PlainRow["value"], state = State.ENABLED): PlainRow {
  return { state, ...(value === undefined ? {} : { value }) };
}

const text = (value: string) => ({ value: { case: "stringValue" as const, value } });
const no = { value: { case: "boolValue" as const, value: false } };

/** The shop as the other tests furnish it, and what its descriptors do not define any more. */
function furnish({
  rows,
  override,
}: {
  rows: PlainEvaluator["rows"];
  override: PlainEvaluator["override"];
}): void {
  rows.set("shop/1", row(text("weekly")));
  rows.set("shop/2", row(undefined, State.DEFAULT));
  rows.set("shop/3", row({ value: { case: "int64Value", value: 7n } }));
  rows.set("shop/4", row({ value: { case: "doubleValue", value: 0.9 } }, State.KILLED));
  rows.set("shop/5", row({ value: { case: "stringListValue", value: { values: ["l"] } } }));
  rows.set("old/1", { ...row(text("kept for those who still ask")), archived: true });
  override("ann", "shop/1", row(text("never")));
  override("bob", "shop/2", row(no));
}

async function openPlain(protocol: "http" | "grpc" = "http"): Promise<PlainEvaluator> {
  const plain = await PlainEvaluator.open(protocol);
  furnish({ rows: plain.rows, override: (...args) => plain.override(...args) });
  return plain;
}

async function startProxy(servers: readonly ServerSettings[]): Promise<TestDaemon> {
  const cache = {
    kill_ttl: `${KILL_TTL_MS}ms`,
    flag_ttl: "500ms",
    override_ttl: "500ms",
    fetch_timeout: "5s",
  };
  const file = await openConfigFile(poolFile({ descriptors }, servers, { cache }));
  const proxy = await startDaemon({ args: ["--config", file.path] });
  await proxy.whenReady();
  // It has been read.
  await file[Symbol.asyncDispose]();
  return proxy;
}

/** As `value SOURCE`. */
async function answer(proxy: TestDaemon, flagId: string, entityId = ""): Promise<string> {
  const found = await proxy.evaluate(flagId, entityId);
  return `${valueOf(found)} ${found.source.replace("EVALUATION_SOURCE_", "")}`;
}

describe.each(["http", "grpc"] as const)("behind a plain evaluator (%s)", (protocol) => {
  test("values, overrides, kills, archived and absent flags are what it says", async () => {
    await using plain = await openPlain(protocol);
    await using proxy = await startProxy([{ name: "plain", url: plain.url }]);
    const expected: Readonly<Record<string, string>> = {
      "shop/1": '{"stringValue":"weekly"} GLOBAL',
      "shop/1 ann": '{"stringValue":"never"} OVERRIDE',
      "shop/1 carl": '{"stringValue":"weekly"} GLOBAL',
      "shop/2": '{"boolValue":true} DEFAULT',
      "shop/2 bob": '{"boolValue":false} OVERRIDE',
      "shop/3 ann": '{"int64Value":"7"} GLOBAL',
      "shop/4": '{"doubleValue":0.5} KILLED',
      "shop/5": '{"stringListValue":{"values":["l"]}} GLOBAL',
      // NOT_FOUND: neither the descriptors nor it have a value.
      "shop/6": " DEFAULT",
      "old/1": '{"stringValue":"kept for those who still ask"} ARCHIVED',
      "ghost/1": " DEFAULT",
    };
    const asked = await Promise.all(
      Object.keys(expected).map(async (name) => {
        const [flagId = "", entityId] = name.split(" ");
        return [name, await answer(proxy, flagId, entityId)];
      }),
    );
    expect(Object.fromEntries(asked)).toEqual(expected);
    // No row is not the same as not knowing.
    expect(await proxy.call("GetFlagState", { flagId: "shop/6" })).toMatchObject({ status: 404 });
    expect(await proxy.call("GetOverrides", { entityId: "carl" })).toEqual({ status: 200, answer: {} });

    expect(await listUpstreams(proxy)).toEqual({
      plain: expect.objectContaining({ state: "up", kind: "pbflags", status: "serving", version: null }),
    });
    const state = stateClient(proxy);
    expect((await state.getStatus({})).version).toBeUndefined();
    const { rows, version } = await state.getFlagStates({ flagIds: ["shop/1", "shop/6"] });
    expect([rows.map(({ flagId }) => flagId), version]).toEqual([["shop/1"], undefined]);
    expect((await state.getKills({})).version).toBeUndefined();
    // It was asked no more than state: what a flag's value is, the proxy decides itself.
    expect([plain.calls.evaluate, plain.calls.bulkEvaluate]).toEqual([0, 0]);
  });

  test("kills and revives come with the next poll, and killed overrides are handed on", async () => {
    await using plain = await openPlain(protocol);
    await using proxy = await startProxy([{ name: "plain", url: plain.url }]);
    for (let i = 0; i < size(2, 20); i++) {
      plain.rows.set("shop/3", row({ value: { case: "int64Value", value: 7n } }, State.KILLED));
      await expect.poll(() => answer(proxy, "shop/3"), SOON).toBe('{"int64Value":"5"} KILLED');
      plain.rows.set("shop/3", row({ value: { case: "int64Value", value: 7n } }));
      await expect.poll(() => answer(proxy, "shop/3"), SOON).toBe('{"int64Value":"7"} GLOBAL');
    }
    plain.rows.set("ghost/9", row(undefined, State.KILLED));
    plain.override("ann", "shop/1", row(text("never"), State.KILLED));
    await expect
      .poll(async () => (await proxy.call("GetKilledFlags", {})).answer, SOON)
      .toEqual({
        flagIds: expect.arrayContaining(["shop/4", "ghost/9"]),
        killedOverrides: [{ flagId: "shop/1", entityId: "ann" }],
      });
    // Without versions, the override itself is known to be another one as soon as its time to live is over.
    await expect.poll(() => answer(proxy, "shop/1", "ann"), SOON).toBe('{"stringValue":"daily"} DEFAULT');
    plain.rows.set("shop/1", row(text("hourly")));
    await expect
      .poll(() => answer(proxy, "shop/1"), SOON)
      .toMatch(/^{"stringValue":"hourly"} (GLOBAL|STALE)$/);
  });

  test("INTERNAL means that this flag is not known, and nothing of the upstream", async () => {
    await using plain = await openPlain(protocol);
    plain.untold.add("shop/5");
    await using proxy = await startProxy([{ name: "plain", url: plain.url }]);
    expect(await answer(proxy, "shop/5")).toBe('{"stringListValue":{"values":["s","m"]}} DEFAULT');
    expect(await answer(proxy, "shop/1")).toBe('{"stringValue":"weekly"} GLOBAL');

    // One that was known once stays what it was.
    plain.untold.add("shop/1");
    const before = plain.calls.getFlagState;
    const asked = async (times: number) => {
      await proxy.bulkEvaluate([]);
      return plain.calls.getFlagState > before + times * shop.length * 6;
    };
    await eventually(() => asked(3), { timeoutMs: 15_000 });
    expect((await answer(proxy, "shop/1")).split(" ")[0]).toBe('{"stringValue":"weekly"}');

    // And so if it can tell nothing at all.
    for (const flagId of plain.rows.keys()) plain.untold.add(flagId);
    plain.untold.add("shop/6");
    await eventually(() => asked(6), { timeoutMs: 15_000 });
    for (const [flagId, value] of [
      ["shop/1", '{"stringValue":"weekly"}'],
      ["shop/3", '{"int64Value":"7"}'],
      ["shop/4", '{"doubleValue":0.5}'],
    ] as const) {
      expect((await answer(proxy, flagId)).split(" ")[0]).toBe(value);
    }
    expect(await listUpstreams(proxy)).toMatchObject({
      plain: { state: "up", score: 3, breaker: "closed", lastError: null },
    });
    const failures = await proxy.metric("pbflags_upstream_failures_total");
    expect(Object.values(failures).every((count) => count === 0)).toBe(true);

    plain.untold.clear();
    await expect
      .poll(() => answer(proxy, "shop/5"), SOON)
      .toMatch(/^{"stringListValue":{"values":\["l"\]}} (GLOBAL|STALE)$/);
  });
});

test("one that says that its own upstream fails is asked only if there is no other; one that says it connects, as any", async () => {
  await using a = await openPlain();
  await using b = await openPlain("grpc");
  a.status = EvaluatorStatus.DEGRADED;
  await using proxy = await startProxy([
    { name: "a", url: a.url },
    { name: "b", url: b.url },
  ]);
  const whenSaid = (status: string) =>
    eventually(async () => (await listUpstreams(proxy))["a"]?.status === status, {
      what: `a says ${status}`,
    });
  let strangers = 0;
  /** How many of so many questions about entities went to each. */
  const ask = async (count: number) => {
    const before = [a.calls.getOverrides, b.calls.getOverrides] as const;
    for (let i = 0; i < count; i++) await proxy.evaluate("shop/1", `stranger-${strangers++}`);
    return { a: a.calls.getOverrides - before[0], b: b.calls.getOverrides - before[1] };
  };
  await whenSaid("degraded");
  expect(await ask(20)).toEqual({ a: 0, b: 20 });

  a.status = EvaluatorStatus.CONNECTING;
  await whenSaid("connecting");
  const even = await ask(20);
  // Polls take their turns in between.
  expect(Math.min(even.a, even.b)).toBeGreaterThan(5);

  a.status = EvaluatorStatus.SERVING;
  b.status = EvaluatorStatus.DEGRADED;
  await whenSaid("serving");
  await eventually(async () => (await listUpstreams(proxy))["b"]?.status === "degraded");
  expect(await ask(20)).toEqual({ a: 20, b: 0 });

  a.status = EvaluatorStatus.DEGRADED;
  await whenSaid("degraded");
  const worst = await ask(20);
  expect(worst.a + worst.b).toBe(20);
  expect(Math.min(worst.a, worst.b)).toBeGreaterThan(5);
});
