import { create, toBinary } from "@bufbuild/protobuf";
import { describe, test } from "vitest";
import { FlagValueSchema } from "../../src/gen/pbflags/v1/types_pb.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";
import { answersTo, openScene, SOON, serveArgs, shop, through, valueOf } from "./scene.ts";

// The checklist at the end of the design of evaluation, but for its outages, which have a file of their own.

// They mostly wait, so they wait side by side.
describe.concurrent("whatever the database holds, and whatever happens to it", () => {
  test("garbage in one row costs that row its value, and is told once", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using daemon = await startDaemon({ args: serveArgs(database.url, scene) });
    await daemon.whenReady();

    await scene.sql("UPDATE feature_flags.flags SET value = '\\xdeadbeef' WHERE flag_id = 'shop/3'");
    await scene.sql("UPDATE feature_flags.flag_overrides SET value = '\\x12ff' WHERE flag_id = 'shop/2'");
    await expect.poll(answersTo(daemon, "bob"), SOON).toMatchObject({
      "shop/1": '{"stringValue":"weekly"} GLOBAL',
      "shop/2": '{"boolValue":true} DEFAULT',
      "shop/3": '{"int64Value":"5"} DEFAULT',
      "shop/5": '{"stringListValue":{"values":["l"]}} GLOBAL',
    });
    await fetchesMore(daemon, 2);
    expect(await daemon.metric("pbflags_invalid_values_total")).toEqual({ "": 2 });
    const told = daemon.log.filter(({ event }) => event === "invalid_value");
    expect(told.map(({ flag_id, entity_id }) => ({ flag_id, entity_id }))).toEqual(
      expect.arrayContaining([
        { flag_id: "shop/2", entity_id: "bob" },
        { flag_id: "shop/3", entity_id: undefined },
      ]),
    );
    expect(told).toHaveLength(2);

    await scene.operate((store) => store.setValue("shop/3", "8"));
    await expect.poll(answersTo(daemon, ""), SOON).toMatchObject({ "shop/3": '{"int64Value":"8"} GLOBAL' });
  });

  test("a value of another type is never served, wherever it stands", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using daemon = await startDaemon({ args: serveArgs(database.url, scene) });
    await daemon.whenReady();

    const bool = toBinary(
      FlagValueSchema,
      create(FlagValueSchema, { value: { case: "boolValue", value: true } }),
    );
    await scene.sql("UPDATE feature_flags.flags SET value = $1 WHERE flag_id IN ('shop/1', 'shop/3')", [
      bool,
    ]);
    await scene.sql("UPDATE feature_flags.flag_overrides SET value = $1 WHERE flag_id = 'shop/1'", [bool]);
    await expect.poll(answersTo(daemon, "ann"), SOON).toMatchObject({
      "shop/1": '{"stringValue":"daily"} DEFAULT',
      "shop/2": '{"boolValue":true} DEFAULT',
      "shop/3": '{"int64Value":"5"} DEFAULT',
    });
    // An archived flag has no definition; its row says which type it has.
    await scene.operate((store) => store.setValue("shop/6", "11"));
    await scene.sql(
      "UPDATE feature_flags.flags SET archived_at = now(), flag_id = 'shop/77', field_number = 77 WHERE flag_id = 'shop/6'",
    );
    await expect
      .poll(answersTo(daemon, "ann"), SOON)
      .toMatchObject({ "shop/77": '{"int64Value":"11"} ARCHIVED' });
    await scene.sql("UPDATE feature_flags.flags SET value = $1 WHERE flag_id = 'shop/77'", [bool]);
    await expect.poll(answersTo(daemon, "ann"), SOON).toMatchObject({ "shop/77": " DEFAULT" });
  });

  test("a flag that leaves the descriptors is answered from its row, first live, then archived", async ({
    expect,
  }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using daemon = await startDaemon({ args: serveArgs(database.url, scene) });
    await daemon.whenReady();

    await scene.describe(shopWithout(1, 2, 4));
    await eventually(() => daemon.log.some(({ event }) => event === "descriptors_replaced"));
    expect((await daemon.bulkEvaluate([])).map(({ flagId }) => flagId)).toEqual([
      "shop/3",
      "shop/5",
      "shop/6",
    ]);
    // Without a definition nobody can tell whether it varies: overrides no longer count.
    await expect.poll(answersTo(daemon, "ann"), SOON).toMatchObject({
      "shop/1": '{"stringValue":"weekly"} GLOBAL',
      "shop/2": " DEFAULT",
      "shop/4": " KILLED",
      "shop.banner": " DEFAULT",
    });

    expect((await scene.sync()).archived).toEqual(["shop/1", "shop/2", "shop/4"]);
    await expect.poll(answersTo(daemon, "ann"), SOON).toMatchObject({
      "shop/1": '{"stringValue":"weekly"} ARCHIVED',
      "shop/2": " DEFAULT",
      "shop/4": " KILLED",
    });

    await scene.describe(shop);
    await expect.poll(answersTo(daemon, "ann"), SOON).toMatchObject({
      "shop/1": '{"stringValue":"never"} OVERRIDE',
      "shop/4": '{"doubleValue":0.5} KILLED',
    });
  });

  test("a flag that is new in the descriptors answers its default, until there is a row", async ({
    expect,
  }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene({ ...database, features: shopWithout(3), operate: async () => {} });
    await using daemon = await startDaemon({ args: serveArgs(database.url, scene) });
    await daemon.whenReady();
    await expect
      .poll(answersTo(daemon, ""), SOON)
      .toMatchObject({ "shop/3": " DEFAULT", "shop.limit": " DEFAULT" });

    await scene.describe(shop);
    await expect.poll(answersTo(daemon, "ann"), SOON).toMatchObject({
      "shop/3": '{"int64Value":"5"} DEFAULT',
      "shop.limit": '{"int64Value":"5"} DEFAULT',
    });
    expect(await daemon.call("GetFlagState", { flagId: "shop/3" })).toMatchObject({ status: 404 });
    expect((await daemon.readiness()).status).toBe(200);

    await scene.sync();
    await scene.operate((store) => store.setValue("shop/3", "9"));
    await expect
      .poll(answersTo(daemon, "ann"), SOON)
      .toMatchObject({ "shop.limit": '{"int64Value":"9"} GLOBAL' });
  });

  test("a full cache forgets, and goes on answering right", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    const people = Array.from({ length: 60 }, (_, i) => `person-${i}`);
    await scene.operate(async (store) => {
      for (const person of people) await store.setOverride("shop/1", person, `for ${person}`);
    });
    await using proxy = await openTcpProxy(Number(new URL(database.url).port));
    const args = [
      ...serveArgs(through(proxy, database.url), scene),
      "--cache-override-max-entries",
      "20",
      "--cache-override-ttl",
      "10m",
    ];
    await using daemon = await startDaemon({ args });
    await daemon.whenReady();

    for (let round = 0; round < 2; round++) {
      for (const person of people) {
        expect(valueOf(await daemon.evaluate("shop/1", person))).toBe(`{"stringValue":"for ${person}"}`);
        // Absences make room first: they cost nobody his override.
        await daemon.evaluate("shop/1", `nobody-${round}-${person}`);
      }
      expect(await daemon.metric("pbflags_override_cache_size")).toEqual({ "": 20 });
    }
    proxy.cut();
    const answers = await Promise.all(people.map((person) => daemon.evaluate("shop/1", person)));
    // The last twenty are remembered; for the others the global value is the best that is known.
    expect(answers.slice(0, 40).map(valueOf)).toEqual(Array(40).fill('{"stringValue":"weekly"}'));
    expect(answers.slice(40).map(valueOf)).toEqual(
      people.slice(40).map((person) => `{"stringValue":"for ${person}"}`),
    );
  });

  test("10,000 unknown ids cost a bounded memory and one look-up each", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    // What a busy machine does not look up in time is looked up again.
    const args = [
      ...serveArgs(database.url, scene),
      "--cache-flag-ttl",
      "10m",
      "--cache-fetch-timeout",
      "10s",
    ];
    await using daemon = await startDaemon({ args });
    await daemon.whenReady();
    const ids = Array.from({ length: 10_000 }, (_, i) => `made-up/${i}`);
    const misses = async () => (await daemon.metric("pbflags_cache_misses_total"))['tier="flags"'] ?? 0;
    const ask = async (prefix: string) => {
      const evaluations = await daemon.bulkEvaluate(ids.map((id) => prefix + id));
      expect(evaluations).toHaveLength(ids.length);
      for (const each of evaluations) expect(each).toEqual({ flagId: each.flagId, source: DEFAULT });
    };

    const before = await misses();
    await ask("");
    expect((await misses()) - before).toBe(10_000);
    await ask("");
    expect((await misses()) - before).toBe(10_000);

    // Others take their place: memory no longer grows.
    const memory = async () => (await daemon.metric("process_resident_memory_bytes"))[""] ?? 0;
    for (let i = 0; i < 5; i++) await ask(`${i}`);
    const full = await memory();
    for (let i = 5; i < 20; i++) await ask(`${i}`);
    expect((await memory()) - full).toBeLessThan(64 * 2 ** 20);
    await expect
      .poll(answersTo(daemon, "ann"), SOON)
      .toMatchObject({ "shop/1": '{"stringValue":"never"} OVERRIDE' });
  }, 120_000);

  test("kills and revives during an outage are applied on reconnect", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using proxy = await openTcpProxy(Number(new URL(database.url).port));
    await using daemon = await startDaemon({ args: serveArgs(through(proxy, database.url), scene) });
    await daemon.whenReady();
    await expect
      .poll(answersTo(daemon, "ann"), SOON)
      .toMatchObject({ "shop/1": '{"stringValue":"never"} OVERRIDE' });

    proxy.cut();
    await scene.operate(async (store) => {
      await store.kill("shop/1");
      await store.revive("shop/4");
      // Killed and revived again before anybody could notice.
      await store.kill("shop/3");
      await store.revive("shop/3");
    });
    await eventually(async () => (await daemon.readiness()).checks["database"] !== undefined);
    await eventually(
      async () => ((await daemon.metric("pbflags_health_consecutive_failures"))[""] ?? 0) >= 3,
    );
    await expect.poll(answersTo(daemon, "ann"), SOON).toMatchObject({
      "shop/1": '{"stringValue":"never"} CACHED',
      "shop/4": '{"doubleValue":0.5} KILLED',
    });

    proxy.restore();
    await expect.poll(answersTo(daemon, "ann"), SOON).toMatchObject({
      "shop/1": '{"stringValue":"daily"} KILLED',
      "shop/3": '{"int64Value":"7"} GLOBAL',
      "shop/4": '{"doubleValue":0.9} GLOBAL',
    });
    expect(await daemon.call("GetKilledFlags", {})).toMatchObject({ answer: { flagIds: ["shop/1"] } });
  });

  test("daemons that share a database all learn of a change", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using one = await startDaemon({ args: serveArgs(database.url, scene) });
    await using other = await startDaemon({ args: serveArgs(database.url, scene) });
    await one.whenReady();
    await other.whenReady();
    await scene.operate((store) => store.kill("shop/3"));
    for (const daemon of [one, other]) {
      await expect.poll(answersTo(daemon, ""), SOON).toMatchObject({ "shop/3": '{"int64Value":"5"} KILLED' });
    }
  });

  test("one bad flag never costs a bulk the others", async ({ expect }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using proxy = await openTcpProxy(Number(new URL(database.url).port));
    await using daemon = await startDaemon({ args: serveArgs(through(proxy, database.url), scene) });
    await daemon.whenReady();
    await scene.sql("UPDATE feature_flags.flags SET value = '\\xff' WHERE flag_id = 'shop/5'");
    const asked = {
      "shop/1": '{"stringValue":"never"}',
      "no such flag": "",
      "": "",
      [`shop/${"9".repeat(600)}`]: "",
      "shop/\u0000": "",
      "shop/\u{1f600}": "",
      "shop/2": '{"boolValue":true}',
      "shop.ratio": '{"doubleValue":0.5}',
      "shop/5": '{"stringListValue":{"values":["s","m"]}}',
      "shop/6": "",
      __proto__x: "",
      "shop.limit": '{"int64Value":"7"}',
    };
    const ids = [...Object.keys(asked), ...Object.keys(asked)];
    const expected = [...Object.values(asked), ...Object.values(asked)];
    const ask = async () => {
      const evaluations = await daemon.bulkEvaluate(ids, "ann");
      // An empty id is not written in JSON.
      expect(evaluations).toHaveLength(ids.length);
      expect(evaluations).toMatchObject(ids.map((flagId) => (flagId === "" ? {} : { flagId })));
      return evaluations.map(valueOf);
    };
    await eventually(async () => (await ask()).join() === expected.join());
    proxy.cut();
    for (let i = 0; i < 10; i++) expect(await ask()).toEqual(expected);
  });
});

const DEFAULT = "EVALUATION_SOURCE_DEFAULT";

function shopWithout(...numbers: readonly number[]) {
  return shop.map((feature) => ({
    ...feature,
    flags: feature.flags.filter(({ number }) => !numbers.includes(number)),
  }));
}

/** Resolves once the store has been asked for flags so many times more. */
async function fetchesMore(daemon: TestDaemon, times: number): Promise<void> {
  const fetches = async () =>
    (await daemon.metric("pbflags_fetch_duration_seconds_count"))['backend="db",operation="flag_state"'] ?? 0;
  const before = await fetches();
  await eventually(async () => (await fetches()) >= before + times);
}
