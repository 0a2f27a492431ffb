import { readFile } from "node:fs/promises";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type FlagsDatabase, openFlagsDatabase } from "../../test/sql/flags-database.ts";
import {
  ADMIN_CLIENT_KINDS,
  type AdminClient,
  type AdminClients,
  openAdminClients,
} from "../../test/support/admin-clients.ts";
import { eventually } from "../../test/support/eventually.ts";
import { defineFlag, tableOf } from "../../test/support/flag-builders.ts";
import { createTestDatabase } from "../../test/support/postgres.ts";
import { silentEvents } from "../../test/support/silent-events.ts";
import { openTcpProxy } from "../../test/support/tcp-proxy.ts";
import {
  openEvaluatorClients,
  openGrpcJsClient,
  postJson,
  sendHttp1,
} from "../../test/support/wire-clients.ts";
import { DEFAULT_LIMITS, serveNamespace } from "../../test/wire/serve-memory.ts";
import { Health, HealthCheckResponse_ServingStatus } from "../gen/grpc/health/v1/health_pb.ts";
import { FlagAdminService } from "../gen/pbflags/v1/admin_pb.ts";
import { FlagType, FlagValueSchema, State } from "../gen/pbflags/v1/types_pb.ts";
import { openNamespace } from "../namespaces/namespace.ts";
import { type FlagAdmin, openFlagAdmin } from "../store/flag-admin.ts";
import { openPostgresStore } from "../store/postgres-store.ts";
import { systemClock } from "../system/clock.ts";
import { Latest } from "../system/latest.ts";
import type { Rpc } from "../telemetry/call-counts.ts";
import { createAdminRoutes } from "./admin-routes.ts";
import { openHttpServer } from "./http-server.ts";

interface ServedAdmin extends AsyncDisposable {
  readonly port: number;
  readonly client: AdminClient;
  readonly clients: AdminClients;
  readonly rpcs: readonly Rpc[];
  /** The errors that the operator was told of, by name. */
  readonly troubles: readonly string[];
  readonly internalErrors: readonly unknown[];
  /** As the daemon does before it drains. */
  readonly stop: () => void;
}

async function serveAdmin(admin: FlagAdmin): Promise<ServedAdmin> {
  const rpcs: Rpc[] = [];
  const troubles: string[] = [];
  const internalErrors: unknown[] = [];
  const stopping = new AbortController();
  const server = await openHttpServer({
    address: { kind: "tcp", host: "127.0.0.1", port: 0 },
    limits: DEFAULT_LIMITS,
    drainTimeoutMs: 10_000,
    clock: systemClock,
    handle: createAdminRoutes({
      admin,
      limits: DEFAULT_LIMITS,
      clock: systemClock,
      tracing: undefined,
      stopping: stopping.signal,
      onRpc: (rpc) => rpcs.push(rpc),
      onTrouble: (error) => troubles.push(error.name),
      onStalled: () => {},
      onInternalError: (error) => internalErrors.push(error),
    }),
    onDrop: () => {},
    onInternalError: (error) => internalErrors.push(error),
  });
  const port = server.address.kind === "tcp" ? server.address.port : 0;
  const clients = openAdminClients(port);
  return {
    port,
    client: clients.of["Connect, proto"],
    clients,
    rpcs,
    troubles,
    internalErrors,
    stop: () => stopping.abort(),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      clients[Symbol.dispose]();
      await server[Symbol.asyncDispose]();
      await admin[Symbol.asyncDispose]();
    },
  };
}

/** In time enough for a database that is there. */
const TIMEOUT_MS = 1_500;

function serveDatabase({ url }: { readonly url: string }): Promise<ServedAdmin> {
  return serveAdmin(openFlagAdmin({ url, timeoutMs: TIMEOUT_MS, clock: systemClock }));
}

type Value = NonNullable<MessageInitShape<typeof FlagValueSchema>["value"]>;

function value(init: Value) {
  return create(FlagValueSchema, { value: init });
}

const text = (content: string) => value({ case: "stringValue", value: content });

/** Calls, and returns the version that the answer's header says. */
async function versionOf(call: (options: CallOptions) => Promise<unknown>): Promise<string | null> {
  let version: string | null = null;
  await call({
    onHeader: (headers) => {
      version = headers.get("pbflags-version");
    },
  });
  return version;
}

async function failureOf(call: Promise<unknown>): Promise<{ code: Code; message: string }> {
  const error = await call.catch((thrown: unknown) => thrown);
  if (!(error instanceof ConnectError)) throw new Error(`expected a ConnectError, got ${String(error)}`);
  return { code: error.code, message: error.rawMessage };
}

/** A text stands for itself, as a whole. */
function toPattern(message: RegExp | string): RegExp {
  if (message instanceof RegExp) return message;
  return new RegExp(`^${message.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)}$`);
}

let opened: FlagsDatabase;
let served: ServedAdmin;
let client: AdminClient;

beforeAll(async () => {
  opened = await openFlagsDatabase();
  served = await serveDatabase(opened);
  ({ client } = served);
});

afterAll(async () => {
  await served[Symbol.asyncDispose]();
  await opened[Symbol.asyncDispose]();
});

beforeEach(async () => {
  await opened.database.query(`
    DELETE FROM feature_flags.flag_overrides;
    UPDATE feature_flags.flags SET state = 'DEFAULT', value = NULL, archived_at = NULL`);
  // That was logged when it was committed.
  await opened.database.query("DELETE FROM feature_flags.flag_audit_log");
});

/** What the database has of a flag, as its status view shows it. */
async function stored(flagId: string): Promise<unknown> {
  const { rows } = await opened.database.query(
    "SELECT state, value, revives_to, revives_to_value FROM feature_flags.flag_status WHERE flag_id = $1",
    [flagId],
  );
  return rows[0];
}

async function storedOverride(flagId: string, entityId: string): Promise<unknown> {
  const { rows } = await opened.database.query(
    "SELECT state, value FROM feature_flags.override_status WHERE flag_id = $1 AND entity_id = $2",
    [flagId, entityId],
  );
  return rows[0];
}

async function currentVersion(): Promise<unknown> {
  return opened.one("SELECT feature_flags.version()");
}

describe("reading", () => {
  test("features are listed with their flags, without those that are archived and without overrides", async () => {
    await opened.database.query(`
      INSERT INTO feature_flags.features (feature_id, description, owner) VALUES ('empty', '', ''), ('art', 'Pictures', 'team-art')
        ON CONFLICT DO NOTHING;
      INSERT INTO feature_flags.flags (flag_id, feature_id, field_number, display_name, flag_type, layer, description,
          default_value, supported_values)
        VALUES ('art/1', 'art', 1, 'style', 'STRING', 'USER', 'Of pictures.', '\\x12056461696c79', '\\x0a01610a0162');
      UPDATE feature_flags.flags SET archived_at = now() WHERE flag_id = 'shop/3'`);
    await client.updateFlagState({ flagId: "art/1", state: State.ENABLED, value: text("flat") });
    await client.setFlagOverride({
      flagId: "art/1",
      entityId: "ann",
      state: State.ENABLED,
      value: text("oil"),
    });
    let version: string | null = null;
    const { features } = await client.listFeatures(
      {},
      {
        onHeader: (headers) => {
          version = headers.get("pbflags-version");
        },
      },
    );
    expect(version).toBe(await currentVersion());
    expect(features.map(({ featureId, flags }) => [featureId, flags.map(({ flagId }) => flagId)])).toEqual([
      ["art", ["art/1"]],
      ["shop", [1, 2, 4, 5, 6, 7, 8, 9].map((n) => `shop/${n}`)],
    ]);
    expect(features[0]).toMatchObject({ description: "Pictures", owner: "team-art" });
    expect(features[0]?.flags[0]).toMatchObject({
      displayName: "style",
      description: "Of pictures.",
      flagType: FlagType.STRING,
      layer: "USER",
      state: State.ENABLED,
      defaultValue: text("daily"),
      currentValue: text("flat"),
      overrides: [],
      supportedValues: { stringValues: ["a", "b"] },
      archived: false,
    });
    await opened.database.query("DELETE FROM feature_flags.flags WHERE feature_id = 'art'");
  });

  test("a flag is shown by id or alias, archived ones too, with its overrides by entity", async () => {
    await client.setFlagOverride({
      flagId: "shop/2",
      entityId: "bob",
      state: State.ENABLED,
      value: text("b"),
    });
    await client.setFlagOverride({ flagId: "shop/2", entityId: "ann", state: State.KILLED });
    await opened.database.query(
      "UPDATE feature_flags.flags SET archived_at = now() WHERE flag_id = 'shop/2'",
    );
    const byId = await client.getFlag({ flagId: "shop/2" });
    expect(byId.flag).toMatchObject({
      flagId: "shop/2",
      displayName: "string",
      state: State.DEFAULT,
      archived: true,
      overrides: [
        { entityId: "ann", state: State.KILLED },
        { entityId: "bob", state: State.ENABLED, value: text("b") },
      ],
    });
    expect(byId.flag?.currentValue).toBeUndefined();
    expect(byId.flag?.defaultValue).toBeUndefined();
    expect(await client.getFlag({ flagId: "shop.string" })).toEqual(byId);
    expect(await versionOf((options) => client.getFlag({ flagId: "shop/2" }, options))).toBe(
      await currentVersion(),
    );
  });

  test("one value that cannot be read hides nothing else", async () => {
    await opened.database.query(
      "UPDATE feature_flags.flags SET state = 'ENABLED', value = '\\xffff' WHERE flag_id = 'shop/1'",
    );
    const { flag } = await client.getFlag({ flagId: "shop/1" });
    expect(flag).toMatchObject({ flagId: "shop/1", state: State.ENABLED });
    expect(flag?.currentValue).toBeUndefined();
  });

  test("values that do not go into one answer are an error, and of overrides those that do are shown", async () => {
    await opened.database.query(`
      UPDATE feature_flags.flags SET state = 'ENABLED', value = feature_flags.encode_value('STRING', to_jsonb(repeat('x', 5000000)))
        WHERE flag_id = 'shop/2';
      INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, value)
        SELECT 'shop/1', 'user-' || lpad(n::text, 6, '0'), '\\x0801' FROM generate_series(1, 10001) AS n`);
    expect(await failureOf(client.listFeatures({}))).toEqual({
      code: Code.ResourceExhausted,
      message: expect.stringMatching(
        /^Cannot ListFeatures: the values of all flags have 50\d{5} bytes, and at most 4194304 go into one answer/,
      ),
    });
    const { flag } = await client.getFlag({ flagId: "shop/1" });
    expect(flag?.overrides.length).toBe(10_000);
    expect(flag?.overrides.at(-1)?.entityId).toBe("user-010000");
  });
});

describe("the state of a flag", () => {
  test.each([
    ["a text", "shop/2", { case: "stringValue", value: "weekly" }, "weekly"],
    ["an empty text", "shop/2", { case: "stringValue", value: "" }, ""],
    ["false", "shop/1", { case: "boolValue", value: false }, false],
    ["a number", "shop/3", { case: "int64Value", value: -5n }, -5],
    ["a fraction", "shop.double", { case: "doubleValue", value: 0.5 }, 0.5],
    ["an empty list", "shop/6", { case: "stringListValue", value: { values: [] } }, []],
    ["a list", "shop/7", { case: "int64ListValue", value: { values: [1n, 2n] } }, [1, 2]],
  ] as const)("is set with %s, as the database's own functions store it", async (_, flagId, init, json) => {
    await client.updateFlagState({ flagId, state: State.ENABLED, value: value(init as Value) });
    const id = flagId.replace("shop.double", "shop/4");
    expect(await stored(id)).toMatchObject({ state: "ENABLED", value: json });
    const bytes = "SELECT encode(value, 'hex') FROM feature_flags.flags WHERE flag_id = $1";
    const ours = await opened.one(bytes, [id]);
    await opened.database.query("SELECT feature_flags.set_value($1, $2::jsonb)", [id, JSON.stringify(json)]);
    expect(await opened.one(bytes, [id])).toBe(ours);
  });

  test("KILLED without a value loses nothing, and ENABLED without a value brings it back", async () => {
    await client.updateFlagState({ flagId: "shop/2", state: State.ENABLED, value: text("weekly") });
    for (let times = 0; times < 2; times++) {
      await client.updateFlagState({ flagId: "shop.string", state: State.KILLED });
      expect(await stored("shop/2")).toEqual({
        state: "KILLED",
        value: "weekly",
        revives_to: "ENABLED",
        revives_to_value: "weekly",
      });
    }
    await client.updateFlagState({ flagId: "shop/2", state: State.ENABLED });
    expect(await stored("shop/2")).toMatchObject({ state: "ENABLED", value: "weekly" });
  });

  test("KILLED with a value keeps what the kill took", async () => {
    await client.updateFlagState({ flagId: "shop/2", state: State.ENABLED, value: text("weekly") });
    await client.updateFlagState({ flagId: "shop/2", state: State.KILLED, value: text("never") });
    expect(await stored("shop/2")).toMatchObject({ value: "never", revives_to_value: "weekly" });
    await client.updateFlagState({ flagId: "shop/2", state: State.ENABLED });
    expect(await stored("shop/2")).toMatchObject({ state: "ENABLED", value: "weekly" });
  });

  test("ENABLED with a value ends a kill", async () => {
    await client.updateFlagState({ flagId: "shop/2", state: State.KILLED });
    await client.updateFlagState({ flagId: "shop/2", state: State.ENABLED, value: text("daily") });
    expect(await stored("shop/2")).toEqual({
      state: "ENABLED",
      value: "daily",
      revives_to: null,
      revives_to_value: null,
    });
  });

  test("DEFAULT forgets the value, also of a killed flag", async () => {
    for (const killed of [false, true]) {
      await client.updateFlagState({ flagId: "shop/2", state: State.ENABLED, value: text("weekly") });
      if (killed) await client.updateFlagState({ flagId: "shop/2", state: State.KILLED });
      await client.updateFlagState({ flagId: "shop/2", state: State.DEFAULT });
      expect(await stored("shop/2")).toMatchObject({ state: "DEFAULT", value: null });
    }
  });
});

describe("an override", () => {
  test("is created, changed, killed with its value kept, and removed", async () => {
    const override = { flagId: "shop.string", entityId: "ann" };
    await client.setFlagOverride({ ...override, state: State.ENABLED, value: text("a") });
    expect(await storedOverride("shop/2", "ann")).toEqual({ state: "ENABLED", value: "a" });
    await client.setFlagOverride({ ...override, state: State.ENABLED, value: text("b") });
    await client.setFlagOverride({ ...override, state: State.KILLED });
    expect(await storedOverride("shop/2", "ann")).toEqual({ state: "KILLED", value: "b" });
    await client.setFlagOverride({ ...override, state: State.ENABLED });
    expect(await storedOverride("shop/2", "ann")).toEqual({ state: "ENABLED", value: "b" });
    await client.setFlagOverride({ ...override, state: State.DEFAULT });
    expect(await storedOverride("shop/2", "ann")).toEqual({ state: "DEFAULT", value: null });
    await client.removeFlagOverride(override);
    expect(await storedOverride("shop/2", "ann")).toBeUndefined();
    // Whoever did not hear the answer asks again.
    await client.removeFlagOverride(override);
    expect(await opened.column("SELECT action FROM feature_flags.flag_audit_log ORDER BY id")).toEqual([
      "CREATE_OVERRIDE",
      "UPDATE_OVERRIDE",
      "UPDATE_OVERRIDE",
      "UPDATE_OVERRIDE",
      "UPDATE_OVERRIDE",
      "REMOVE_OVERRIDE",
    ]);
  });
});

describe("the audit log", () => {
  test("has who did what to which value, the newest first", async () => {
    const before = Date.now();
    await client.updateFlagState({
      flagId: "shop/2",
      state: State.ENABLED,
      value: text("weekly"),
      actor: "ann@example.com",
    });
    await client.updateFlagState({ flagId: "shop/2", state: State.ENABLED, value: text("never") });
    await client.setFlagOverride({ flagId: "shop/1", entityId: "u", state: State.KILLED, actor: "bob" });
    await client.removeFlagOverride({ flagId: "shop/1", entityId: "u", actor: "é".repeat(255) });
    const { entries } = await client.getAuditLog({});
    expect(
      entries.map(({ flagId, action, actor, oldValue, newValue }) => [
        flagId,
        action,
        actor,
        oldValue?.value.value,
        newValue?.value.value,
      ]),
    ).toEqual([
      ["shop/1", "REMOVE_OVERRIDE", "é".repeat(255), undefined, undefined],
      ["shop/1", "CREATE_OVERRIDE", "bob", undefined, undefined],
      ["shop/2", "UPDATE_STATE", "admin", "weekly", "never"],
      ["shop/2", "UPDATE_STATE", "ann@example.com", undefined, "weekly"],
    ]);
    const ids = entries.map(({ id }) => id);
    expect(ids).toEqual(ids.toSorted((a, b) => Number(b - a)));
    for (const { createdAt } of entries) {
      if (createdAt === undefined) throw new Error("expected a time");
      expect(timestampMs(createdAt)).toBeGreaterThan(before - 60_000);
      expect(timestampMs(createdAt)).toBeLessThan(Date.now() + 60_000);
    }
    expect((await client.getAuditLog({ flagId: "shop.string" })).entries).toEqual(entries.slice(2));
    expect((await client.getAuditLog({ limit: 1 })).entries).toEqual(entries.slice(0, 1));
    expect(await versionOf((options) => client.getAuditLog({}, options))).toBe(await currentVersion());
  });

  test("shows 50 unless asked for more, and no more than 4 MiB of values", async () => {
    await opened.database.query(`
      INSERT INTO feature_flags.flag_audit_log (flag_id, action, actor) SELECT 'gone/1', 'DELETE_FLAG', 'x' FROM generate_series(1, 1001)`);
    expect((await client.getAuditLog({})).entries.length).toBe(50);
    // A flag that is gone is known to the log.
    expect((await client.getAuditLog({ flagId: "gone/1", limit: 1_000 })).entries.length).toBe(1_000);
    await opened.database.query(
      "UPDATE feature_flags.flag_audit_log SET new_value = feature_flags.encode_value('STRING', to_jsonb(repeat('x', 1000000))) WHERE id IN (SELECT id FROM feature_flags.flag_audit_log ORDER BY id DESC LIMIT 6)",
    );
    expect((await client.getAuditLog({ limit: 1_000 })).entries.length).toBe(4);
  });

  test("a flag that was never changed has no entries, and one that never was is not found", async () => {
    expect((await client.getAuditLog({ flagId: "shop.bool" })).entries).toEqual([]);
    expect(await failureOf(client.getAuditLog({ flagId: "shop/77" }))).toMatchObject({ code: Code.NotFound });
  });
});

describe("what cannot be", () => {
  const { ENABLED, KILLED } = State;
  const long = "x".repeat(3_000);
  const mistakes: Readonly<
    Record<
      string,
      readonly [call: (client: AdminClient) => Promise<unknown>, code: Code, message: RegExp | string]
    >
  > = {
    "GetFlag of nothing": [(c) => c.getFlag({}), Code.InvalidArgument, "Cannot GetFlag: flag_id is empty"],
    "GetFlag of an unknown flag": [
      (c) => c.getFlag({ flagId: "shop/77" }),
      Code.NotFound,
      /^Cannot show "shop\/77": no such flag\. There are: shop\/1 \(bool\)/,
    ],
    "GetFlag of a name that no flag can have": [
      (c) => c.getFlag({ flagId: long }),
      Code.NotFound,
      `Cannot show "${long.slice(0, 100)}…": no such flag`,
    ],
    "an unknown flag's state": [
      (c) => c.updateFlagState({ flagId: "shop/77", state: ENABLED, value: text("x") }),
      Code.NotFound,
      /^Cannot update "shop\/77": no such flag/,
    ],
    "an unknown flag's kill": [
      (c) => c.updateFlagState({ flagId: "shop.nothing", state: KILLED }),
      Code.NotFound,
      /^Cannot kill "shop.nothing": no such flag/,
    ],
    "a zero byte for a flag": [
      (c) => c.updateFlagState({ flagId: "shop/1\0", state: KILLED }),
      Code.NotFound,
      'Cannot update "shop/1\\u0000": no such flag',
    ],
    "no flag's state": [
      (c) => c.updateFlagState({ state: KILLED }),
      Code.InvalidArgument,
      "Cannot UpdateFlagState: flag_id is empty",
    ],
    "no state": [
      (c) => c.updateFlagState({ flagId: "shop/1" }),
      Code.InvalidArgument,
      "Cannot UpdateFlagState: state must be ENABLED, DEFAULT or KILLED, got none",
    ],
    "a value of another type": [
      (c) => c.updateFlagState({ flagId: "shop.bool", state: ENABLED, value: text("true") }),
      Code.FailedPrecondition,
      'Cannot update "shop/1" (BOOL): expected a value of this type, got STRING',
    ],
    "a kill with a value of another type": [
      (c) => c.updateFlagState({ flagId: "shop/1", state: KILLED, value: text("true") }),
      Code.FailedPrecondition,
      'Cannot update "shop/1" (BOOL): expected a value of this type, got STRING',
    ],
    "a value that holds nothing": [
      (c) => c.updateFlagState({ flagId: "shop/1", state: ENABLED, value: create(FlagValueSchema) }),
      Code.FailedPrecondition,
      'Cannot update "shop/1" (BOOL): expected a value of this type, got one that holds nothing',
    ],
    NaN: [
      (c) =>
        c.updateFlagState({
          flagId: "shop/8",
          state: ENABLED,
          value: value({ case: "doubleListValue", value: { values: [1, Number.NaN] } }),
        }),
      Code.FailedPrecondition,
      'Cannot update "shop/8" (DOUBLE_LIST): expected a number, got NaN',
    ],
    "a zero byte": [
      (c) => c.updateFlagState({ flagId: "shop/2", state: ENABLED, value: text("a\0b") }),
      Code.FailedPrecondition,
      /^Cannot update "shop\/2" \(STRING\): expected a text that a database can hold/,
    ],
    "an actor that the log has no room for": [
      (c) => c.updateFlagState({ flagId: "shop/1", state: KILLED, actor: "x".repeat(256) }),
      Code.InvalidArgument,
      /^Cannot UpdateFlagState: actor must have at most 255 characters, .* got 256 characters$/,
    ],
    "an actor with a line of its own": [
      (c) => c.removeFlagOverride({ flagId: "shop/1", entityId: "u", actor: "a\nb" }),
      Code.InvalidArgument,
      /^Cannot RemoveFlagOverride: actor must have/,
    ],
    "an override of a flag that does not vary": [
      (c) => c.setFlagOverride({ flagId: "shop.global", entityId: "u", state: KILLED }),
      Code.FailedPrecondition,
      /^Cannot override "shop\/9" for "u": the flag does not vary, its layer is GLOBAL/,
    ],
    "an override of another type": [
      (c) => c.setFlagOverride({ flagId: "shop/1", entityId: "u", state: ENABLED, value: text("x") }),
      Code.FailedPrecondition,
      'Cannot override "shop/1" (BOOL): expected a value of this type, got STRING',
    ],
    "an override of an unknown flag": [
      (c) => c.setFlagOverride({ flagId: "nobody/1", entityId: "u", state: KILLED }),
      Code.NotFound,
      /^Cannot override "nobody\/1": no such flag/,
    ],
    "an override without a flag": [
      (c) => c.setFlagOverride({ entityId: "u", state: KILLED }),
      Code.InvalidArgument,
      "Cannot SetFlagOverride: flag_id is empty",
    ],
    "an override for nobody": [
      (c) => c.setFlagOverride({ flagId: "shop/1", state: KILLED }),
      Code.InvalidArgument,
      "Cannot SetFlagOverride: entity_id is empty",
    ],
    "an override without a state": [
      (c) => c.setFlagOverride({ flagId: "shop/1", entityId: "u" }),
      Code.InvalidArgument,
      "Cannot SetFlagOverride: state must be ENABLED, DEFAULT or KILLED, got none",
    ],
    "an entity that cannot be": [
      (c) => c.setFlagOverride({ flagId: "shop/1", entityId: long, state: KILLED }),
      Code.InvalidArgument,
      `Cannot override "shop/1": expected an entity id of 1 to 255 printable characters, got "${long.slice(0, 100)}…"`,
    ],
    "removing what nobody can have": [
      (c) => c.removeFlagOverride({ flagId: "shop/1", entityId: "a\u0001" }),
      Code.InvalidArgument,
      /^Cannot remove an override of "shop\/1": expected an entity id/,
    ],
    "removing nobody's": [
      (c) => c.removeFlagOverride({ flagId: "shop/1" }),
      Code.InvalidArgument,
      "Cannot RemoveFlagOverride: entity_id is empty",
    ],
    "removing of no flag": [
      (c) => c.removeFlagOverride({ entityId: "u" }),
      Code.InvalidArgument,
      "Cannot RemoveFlagOverride: flag_id is empty",
    ],
    "removing of an unknown flag": [
      (c) => c.removeFlagOverride({ flagId: "shop/77", entityId: "u" }),
      Code.NotFound,
      /^Cannot remove an override of "shop\/77": no such flag/,
    ],
    "fewer than no entries": [
      (c) => c.getAuditLog({ limit: -1 }),
      Code.InvalidArgument,
      "Cannot GetAuditLog: limit must be from 1 to 1000, or 0 for 50, got -1",
    ],
    "too many entries": [
      (c) => c.getAuditLog({ limit: 1_001 }),
      Code.InvalidArgument,
      "Cannot GetAuditLog: limit must be from 1 to 1000, or 0 for 50, got 1001",
    ],
  };

  test.each(Object.entries(mistakes))("%s is the caller's mistake", async (_, [call, code, message]) => {
    const before = await currentVersion();
    expect(await failureOf(call(client))).toEqual({
      code,
      message: expect.stringMatching(toPattern(message)),
    });
    // Nothing was changed, and nobody is bothered.
    expect(await currentVersion()).toBe(before);
    expect(await opened.column("SELECT action FROM feature_flags.flag_audit_log")).toEqual([]);
    expect(served.internalErrors).toEqual([]);
    expect(served.troubles).toEqual([]);
  });
});

test("a state of a later version is the caller's mistake", async () => {
  const path = `/${FlagAdminService.typeName}/UpdateFlagState`;
  expect(await postJson(served.port, path, { flagId: "shop/1", state: 7 })).toEqual({
    status: 400,
    json: {
      code: "invalid_argument",
      message: "Cannot UpdateFlagState: state must be ENABLED, DEFAULT or KILLED, got 7",
    },
  });
});

describe.each(ADMIN_CLIENT_KINDS)("%s", (kind) => {
  test("speaks all six RPCs, and hears the version of each", async () => {
    const c = served.clients.of[kind];
    const flagId = "shop/2";
    const entityId = "ann";
    const seen = served.rpcs.length;
    const version = async (call: (options: CallOptions) => Promise<unknown>) => {
      expect(await versionOf(call)).toBe(await currentVersion());
    };
    const before = await currentVersion();
    await version((o) =>
      c.updateFlagState({ flagId, state: State.ENABLED, value: text("ü"), actor: kind }, o),
    );
    expect(await currentVersion()).not.toBe(before);
    await version((o) => c.setFlagOverride({ flagId, entityId, state: State.KILLED, actor: kind }, o));
    await version((o) => c.getFlag({ flagId }, o));
    await version((o) => c.removeFlagOverride({ flagId, entityId, actor: kind }, o));
    await version((o) => c.listFeatures({}, o));
    await version((o) => c.getAuditLog({ flagId }, o));
    const { entries } = await c.getAuditLog({ flagId });
    expect(entries.map(({ action, actor }) => `${action} by ${actor}`)).toEqual([
      `REMOVE_OVERRIDE by ${kind}`,
      `CREATE_OVERRIDE by ${kind}`,
      `UPDATE_STATE by ${kind}`,
    ]);
    expect((await c.getFlag({ flagId })).flag?.currentValue).toEqual(text("ü"));
    expect(await failureOf(c.getFlag({ flagId: "shop/ü" }))).toMatchObject({
      code: Code.NotFound,
      message: expect.stringMatching(/^Cannot show "shop\/ü": no such flag/),
    });
    const counted = served.rpcs.slice(seen);
    expect(new Set(counted.map(({ procedure }) => procedure.split("/")[1]))).toEqual(
      new Set(FlagAdminService.methods.map(({ name }) => name)),
    );
    expect(counted.map(({ code }) => code)).toEqual([...Array.from({ length: 8 }, () => "ok"), "not_found"]);
  });
});

test("the version of a write can be asked for at an evaluator that would not look for a day", async () => {
  const dayMs = 86_400_000;
  await using namespace = openNamespace({
    flags: new Latest(tableOf(defineFlag("shop/2"))),
    store: openPostgresStore({
      url: opened.url,
      poolSize: 2,
      preparedStatements: "auto",
      fetchTimeoutMs: 10_000,
      clock: systemClock,
    }),
    clock: systemClock,
    random: () => 0.5,
    killTtlMs: dayMs,
    flagTtlMs: dayMs,
    overrideTtlMs: dayMs,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 100,
    jitter: 0,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
  });
  await namespace.whenReady(AbortSignal.timeout(10_000));
  await using evaluator = await serveNamespace(namespace);
  using evaluators = openEvaluatorClients(evaluator.port);
  const ask = async (min: string | null) => {
    const headers = { "pbflags-min-version": min ?? "missing" };
    const { value } = await evaluators.of["Connect, JSON, HTTP/1.1"].evaluate(
      { flagId: "shop/2", entityId: "ann" },
      { headers },
    );
    return value?.value.value;
  };
  const flagId = "shop/2";
  const steps: readonly (readonly [(options: CallOptions) => Promise<unknown>, unknown])[] = [
    [(o) => client.updateFlagState({ flagId, state: State.ENABLED, value: text("one") }, o), "one"],
    [
      (o) =>
        client.setFlagOverride({ flagId, entityId: "ann", state: State.ENABLED, value: text("hers") }, o),
      "hers",
    ],
    [(o) => client.updateFlagState({ flagId, state: State.KILLED }, o), "daily"],
    [(o) => client.updateFlagState({ flagId, state: State.ENABLED }, o), "hers"],
    [(o) => client.removeFlagOverride({ flagId, entityId: "ann" }, o), "one"],
  ];
  for (const [write, expected] of steps) expect(await ask(await versionOf(write))).toBe(expected);
});

test("health and reflection answer, and there is nothing else", async () => {
  using grpc = openGrpcJsClient(`127.0.0.1:${served.port}`);
  for (const service of ["", FlagAdminService.typeName]) {
    expect(await grpc.unary(Health.method.check, { service })).toMatchObject({
      status: HealthCheckResponse_ServingStatus.SERVING,
    });
  }
  for (const path of ["/", "/metrics", "/pbflags.v1.FlagEvaluatorService/Evaluate"]) {
    expect((await sendHttp1(served.port, { path })).status).toBe(404);
  }
});

describe("while the database", () => {
  test("is away, calls fail in time and change nothing, and as soon as it is back they succeed", async () => {
    await using proxy = await openTcpProxy(Number(new URL(opened.url).port));
    const url = Object.assign(new URL(opened.url), { port: String(proxy.port) }).href;
    await using away = await serveDatabase({ url });
    const kill = () => away.client.updateFlagState({ flagId: "shop/1", state: State.KILLED });
    await away.client.getFlag({ flagId: "shop/1" });
    for (const fail of ["cut", "drop", "garble"] as const) {
      proxy[fail]();
      expect(await failureOf(kill())).toEqual({
        code: Code.Unavailable,
        message: expect.stringMatching(
          /^Cannot UpdateFlagState: the database at 127\.0\.0\.1:\d+\/test_[0-9a-f]+ does not answer: .*; nothing was changed$/,
        ),
      });
      expect(await failureOf(away.client.listFeatures({}))).toMatchObject({ code: Code.Unavailable });
      expect(await stored("shop/1")).toMatchObject({ state: "DEFAULT" });
      // Arguments are judged all the same.
      expect(await failureOf(away.client.getFlag({}))).toMatchObject({ code: Code.InvalidArgument });
      proxy.restore();
      await away.client.getFlag({ flagId: "shop/1" });
    }
    await kill();
    expect(await stored("shop/1")).toMatchObject({ state: "KILLED" });
    expect(new Set(away.troubles)).toEqual(new Set(["DatabaseAwayError"]));
    expect(away.internalErrors).toEqual([]);
  });

  test("has closed idle sessions, nobody notices", async () => {
    await client.listFeatures({});
    await opened.database.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pbflagd-admin' AND datname = current_database()",
    );
    await client.updateFlagState({ flagId: "shop/1", state: State.KILLED });
    expect(await stored("shop/1")).toMatchObject({ state: "KILLED" });
  });

  test("has a row that somebody else holds, a write says so in time, and is not done later", async () => {
    await using other = await opened.connect();
    await other.query("BEGIN; SELECT 1 FROM feature_flags.flags WHERE flag_id = 'shop/1' FOR UPDATE");
    expect(await failureOf(client.updateFlagState({ flagId: "shop/1", state: State.KILLED }))).toEqual({
      code: Code.Unavailable,
      message:
        "Cannot UpdateFlagState: another transaction holds the row (docs/database.md says how to find it); nothing was changed",
    });
    // Others are not held up by that.
    await client.updateFlagState({ flagId: "shop/2", state: State.KILLED });
    await other.query("ROLLBACK");
    expect(await stored("shop/1")).toMatchObject({ state: "DEFAULT" });
  });

  test("lacks our functions, or gives no rights, the operator is told what to do", async () => {
    await using plain = await createTestDatabase({ migrated: false });
    await using unmigrated = await serveDatabase(plain);
    expect(await failureOf(unmigrated.client.listFeatures({}))).toEqual({
      code: Code.FailedPrecondition,
      message: expect.stringContaining('run "pbflagd migrate" first'),
    });
    expect(unmigrated.troubles).toEqual(["SchemaError"]);

    await using role = await createRole("reader", [
      "GRANT USAGE ON SCHEMA feature_flags TO flags_operator",
      "GRANT SELECT ON ALL TABLES IN SCHEMA feature_flags TO flags_operator",
    ]);
    await using reader = await serveDatabase(role);
    await reader.client.listFeatures({});
    expect(await failureOf(reader.client.updateFlagState({ flagId: "shop/1", state: State.KILLED }))).toEqual(
      {
        code: Code.FailedPrecondition,
        message: expect.stringMatching(
          /^Cannot use the database: the role lacks rights that docs\/database\.md lists/,
        ),
      },
    );
  });

  test("is lost in the middle of a commit, it is said that nobody knows", async () => {
    await using proxy = await openTcpProxy(Number(new URL(opened.url).port));
    const url = Object.assign(new URL(opened.url), { port: String(proxy.port) }).href;
    await using away = await serveDatabase({ url });
    await using other = await opened.connect();
    // Every commit of a change takes this lock.
    await other.query("BEGIN; SELECT pg_advisory_xact_lock(8098147695642240001)");
    const write = failureOf(away.client.updateFlagState({ flagId: "shop/1", state: State.KILLED }));
    await eventually(someoneWaits);
    proxy.drop();
    await other.query("ROLLBACK");
    expect(await write).toEqual({
      code: Code.Unavailable,
      message: expect.stringMatching(
        /; it was committing, and whether that was done is not known: look, or do it again$/,
      ),
    });
    // This time it was.
    expect(await stored("shop/1")).toMatchObject({ state: "KILLED" });
  });
});

test("the role that docs/database.md has for operators may do everything", async () => {
  const documentation = await readFile(new URL("../../docs/database.md", import.meta.url), "utf8");
  const grants = documentation.match(/^GRANT .* TO flags_operator;$/gm) ?? [];
  expect(grants.length).toBeGreaterThan(3);
  await using role = await createRole("operator", grants);
  await using operator = await serveDatabase(role);
  const flagId = "shop/2";
  const override = { flagId, entityId: "ann", state: State.ENABLED };
  await operator.client.updateFlagState({
    flagId,
    state: State.ENABLED,
    value: text("weekly"),
    actor: "ann",
  });
  await operator.client.updateFlagState({ flagId, state: State.KILLED });
  await operator.client.setFlagOverride({ ...override, value: text("hers") });
  await operator.client.setFlagOverride({ ...override, state: State.KILLED });
  await operator.client.removeFlagOverride({ flagId, entityId: "ann" });
  expect((await operator.client.getFlag({ flagId })).flag?.state).toBe(State.KILLED);
  expect((await operator.client.listFeatures({})).features.length).toBe(1);
  expect((await operator.client.getAuditLog({})).entries.at(-1)?.actor).toBe("ann");
});

async function someoneWaits(): Promise<boolean> {
  const waiting =
    "SELECT count(*)::integer FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
  return (await opened.one(waiting)) !== 0;
}

/** A role of this file's own, in place of the `flags_operator` of the grants. */
async function createRole(
  name: string,
  grants: readonly string[],
): Promise<AsyncDisposable & { readonly url: string }> {
  const role = `admin_${name}_${process.pid}`;
  await opened.database.query(`CREATE ROLE ${role} LOGIN PASSWORD 'change-me'`);
  for (const grant of grants) await opened.database.query(grant.replaceAll("flags_operator", role));
  return {
    url: Object.assign(new URL(opened.url), { username: role, password: "change-me" }).href,
    async [Symbol.asyncDispose]() {
      await opened.database.query(`DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`);
    },
  };
}

test("what is being written when the daemon stops is finished", async () => {
  await using stopped = await serveDatabase(opened);
  await using other = await opened.connect();
  await other.query("BEGIN; SELECT 1 FROM feature_flags.flags WHERE flag_id = 'shop/1' FOR UPDATE");
  const write = versionOf((o) =>
    stopped.client.updateFlagState({ flagId: "shop/1", state: State.KILLED }, o),
  );
  await eventually(someoneWaits);
  stopped.stop();
  await other.query("COMMIT");
  expect(await write).toBe(await currentVersion());
  expect(await stored("shop/1")).toMatchObject({ state: "KILLED" });
});
