import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { promisify } from "node:util";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { FlagValueSchema, State } from "../../src/gen/pbflags/v1/types_pb.ts";
import { ADMIN_CLIENT_KINDS, openAdminClients } from "../support/admin-clients.ts";
import { failToStart, startDaemon, type TestDaemon } from "../support/daemon.ts";
import type { FeatureSpec } from "../support/descriptors.ts";
import { eventually } from "../support/eventually.ts";
import { listen } from "../support/listen.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";
import { openScene, serveArgs, through } from "./scene.ts";

const ADMIN = ["--admin", "127.0.0.1:0"];

/** Where a daemon's admin service is, as its log says. */
function adminPortOf({ log }: Pick<TestDaemon, "log">): number {
  const line = log.find(({ event }) => event === "admin_serving");
  return (line?.["address"] as { port: number } | undefined)?.port ?? 0;
}

const text = (value: string) => create(FlagValueSchema, { value: { case: "stringValue", value } });

async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  const error = await call.catch((thrown: unknown) => thrown);
  if (error instanceof ConnectError) return error;
  throw new Error(`expected a ConnectError, got ${String(error)}`);
}

test("what any client writes is evaluated, audited and counted", async () => {
  await using database = await createTestDatabase();
  await using scene = await openScene(database);
  await using daemon = await startDaemon({ args: [...serveArgs(database.url, scene), ...ADMIN] });
  await daemon.whenReady();
  using clients = openAdminClients(adminPortOf(daemon));
  const flagId = "shop/1";
  for (const kind of ADMIN_CLIENT_KINDS) {
    const client = clients.of[kind];
    let version = "";
    await client.updateFlagState(
      { flagId, state: State.ENABLED, value: text(kind), actor: kind },
      { onHeader: (headers) => void (version = headers.get("pbflags-version") ?? "") },
    );
    const response = await fetch(`${daemon.url}/pbflags.v1.FlagEvaluatorService/Evaluate`, {
      method: "POST",
      headers: { "content-type": "application/json", "pbflags-min-version": version },
      body: JSON.stringify({ flagId }),
    });
    expect(await response.json()).toMatchObject({ value: { stringValue: kind } });

    await client.setFlagOverride({
      flagId,
      entityId: "zoe",
      state: State.ENABLED,
      value: text("hers"),
      actor: kind,
    });
    const { flag } = await client.getFlag({ flagId: "shop.banner" });
    expect(flag).toMatchObject({ flagId, defaultValue: text("daily"), currentValue: text(kind) });
    expect(flag?.overrides.map(({ entityId }) => entityId)).toEqual(["ann", "zoe"]);
    await client.removeFlagOverride({ flagId, entityId: "zoe", actor: kind });
    const { entries } = await client.getAuditLog({ flagId, limit: 3 });
    expect(entries.map(({ actor }) => actor)).toEqual([kind, kind, kind]);
    const { features } = await client.listFeatures({});
    expect(features.map(({ flags }) => flags.length)).toEqual([6]);
  }
  const counted = await daemon.metric("pbflags_rpc_requests_total");
  const writes = Object.entries(counted).filter(([labels]) =>
    labels.includes("FlagAdminService/UpdateFlagState"),
  );
  expect(writes.reduce((sum, [, count]) => sum + count, 0)).toBe(ADMIN_CLIENT_KINDS.length);
  expect(await daemon.stop()).toBe(0);
});

test("it is off unless it is configured, and never on the evaluator's port", async () => {
  await using database = await createTestDatabase();
  await using scene = await openScene(database);
  for (const args of [[], ADMIN]) {
    await using daemon = await startDaemon({ args: [...serveArgs(database.url, scene), ...args] });
    expect(daemon.log.some(({ event }) => event === "admin_serving")).toBe(args.length > 0);
    const path = "pbflags.v1.FlagAdminService/ListFeatures";
    expect((await fetch(`${daemon.url}/${path}`, { method: "POST", body: "{}" })).status).toBe(404);
  }
});

test("an address that is in use ends the start, and the error names the setting", async () => {
  await using database = await createTestDatabase();
  await using scene = await openScene(database);
  const other = createServer();
  const port = await listen(other);
  const { code, log } = await failToStart({
    args: [...serveArgs(database.url, scene), "--admin", `127.0.0.1:${port}`],
  });
  other.close();
  await once(other, "close");
  expect(code).toBe(1);
  expect(log.map(({ line }) => line)).toContain(
    `error: admin: Cannot listen on 127.0.0.1:${port}: the address is in use (EADDRINUSE)`,
  );
});

test("while the database is away calls are UNAVAILABLE, and evaluations answered", async () => {
  await using database = await createTestDatabase();
  await using scene = await openScene(database);
  await using proxy = await openTcpProxy(Number(new URL(database.url).port));
  await using daemon = await startDaemon({
    args: [...serveArgs(through(proxy, database.url), scene), ...ADMIN],
  });
  await daemon.whenReady();
  using clients = openAdminClients(adminPortOf(daemon));
  const client = clients.of.gRPC;
  const kill = () => client.updateFlagState({ flagId: "shop/3", state: State.KILLED });
  await client.listFeatures({});
  for (const fail of ["cut", "drop"] as const) {
    proxy[fail]();
    // More than it has sessions: all of them wait.
    const calls = Array.from({ length: 8 }, () => failureOf(kill()));
    const evaluation = await daemon.evaluate("shop/3");
    expect(evaluation.value).toEqual({ int64Value: "7" });
    for (const failure of await Promise.all(calls)) {
      expect(failure.code).toBe(Code.Unavailable);
      expect(failure.rawMessage).not.toContain(new URL(database.url).password);
    }
    expect((await daemon.readiness()).status).toBe(200);
    proxy.restore();
    await client.listFeatures({});
  }
  await kill();
  await eventually(async () => (await daemon.evaluate("shop/3")).source === "EVALUATION_SOURCE_KILLED");
});

const notifications: readonly FeatureSpec[] = [
  {
    feature: "notifications",
    flags: [
      { number: 1, name: "email_enabled", type: "BOOL", layer: "user", default: true },
      { number: 2, name: "digest_frequency", type: "STRING", layer: "user", default: "daily" },
    ],
  },
];

test("every command in docs/admin.md works", async ({ skip }) => {
  const run = async (command: string) => (await promisify(execFile)("sh", ["-c", command])).stdout;
  if ((await run("command -v curl || true")) === "") skip("this machine has no curl");
  await using database = await createTestDatabase();
  await using scene = await openScene({
    url: database.url,
    features: notifications,
    operate: () => Promise.resolve(),
  });
  await using daemon = await startDaemon({ args: [...serveArgs(database.url, scene), ...ADMIN] });
  await daemon.whenReady();
  const documentation = await readFile(new URL("../../docs/admin.md", import.meta.url), "utf8");
  const printed: string[] = [];
  for (const [, command = ""] of documentation.matchAll(/^```sh\n([\s\S]*?)^```$/gm)) {
    const here = command
      .replaceAll("localhost:9200", `127.0.0.1:${adminPortOf(daemon)}`)
      .replaceAll("localhost:9201", `127.0.0.1:${daemon.port}`);
    printed.push(await run(here));
  }
  const [features, state, override, flag, removed, log, evaluation] = printed.map((json): unknown =>
    JSON.parse(json),
  );
  expect(printed.length).toBe(7);
  expect(features).toMatchObject({ features: [{ flags: [{}, { displayName: "digest_frequency" }] }] });
  expect([state, override, removed]).toEqual([{}, {}, {}]);
  expect(flag).toMatchObject({
    flag: {
      currentValue: { stringValue: "weekly" },
      overrides: [{ entityId: "user-42", value: { stringValue: "never" } }],
    },
  });
  expect(log).toMatchObject({
    entries: [{ action: "REMOVE_OVERRIDE" }, { action: "CREATE_OVERRIDE" }, { actor: "ann@example.com" }],
  });
  expect(evaluation).toEqual({
    flagId: "notifications/1",
    value: { boolValue: true },
    source: "EVALUATION_SOURCE_KILLED",
  });
});
