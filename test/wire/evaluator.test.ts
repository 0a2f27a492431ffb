import { create, equals } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  EvaluateResponseSchema,
  EvaluationSource,
  EvaluatorStatus,
  OverrideStateSchema,
} from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { State } from "../../src/gen/pbflags/v1/types_pb.ts";
import { flagValue } from "../support/flag-builders.ts";
import { CLIENT_KINDS, type EvaluatorClients, openEvaluatorClients } from "../support/wire-clients.ts";
import { type Served, serveMemory } from "./serve-memory.ts";

const WEEKLY = { flagId: "notifications/1", value: flagValue("weekly"), source: EvaluationSource.GLOBAL };
const PUSH = { flagId: "notifications/2", value: flagValue(true), source: EvaluationSource.DEFAULT };
const RETRIES = { flagId: "notifications/3", value: flagValue(5n), source: EvaluationSource.KILLED };
const BANNER = { flagId: "checkout/1", source: EvaluationSource.DEFAULT };

let served: Served;
let clients: EvaluatorClients;

beforeAll(async () => {
  served = await serveMemory();
  clients = openEvaluatorClients(served.port);
});

afterAll(async () => {
  clients[Symbol.dispose]();
  await served[Symbol.asyncDispose]();
});

/** The code and message an RPC fails with. */
async function failureOf(call: Promise<unknown>): Promise<{ code: Code; message: string }> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ConnectError)) throw new Error(`expected a ConnectError, got ${String(error)}`);
  return { code: error.code, message: error.rawMessage };
}

describe.each(CLIENT_KINDS)("%s", (kind) => {
  const client = () => clients.of[kind];

  describe("Evaluate", () => {
    test("answers value and source", async () => {
      const response = await client().evaluate({ flagId: "notifications/1" });
      expect(equals(EvaluateResponseSchema, response, create(EvaluateResponseSchema, WEEKLY))).toBe(true);
    });

    test("answers an entity's override", async () => {
      const response = await client().evaluate({ flagId: "notifications/1", entityId: "user-1" });
      expect(response.source).toBe(EvaluationSource.OVERRIDE);
      expect(response.value?.value).toEqual({ case: "stringValue", value: "never" });
    });

    test("accepts the alias and repeats it", async () => {
      const response = await client().evaluate({ flagId: "notifications.email" });
      expect(response.flagId).toBe("notifications.email");
      expect(response.source).toBe(EvaluationSource.GLOBAL);
    });

    test("answers a killed flag with its compiled default", async () => {
      const response = await client().evaluate({ flagId: "notifications/3" });
      expect(equals(EvaluateResponseSchema, response, create(EvaluateResponseSchema, RETRIES))).toBe(true);
    });

    test("leaves the value of an unknown flag unset", async () => {
      for (const flagId of ["nobody/1", "x".repeat(600), "line\nbreak", "\u0000"]) {
        const response = await client().evaluate({ flagId, entityId: "user-1" });
        expect(response.flagId).toBe(flagId);
        expect(response.value).toBeUndefined();
        expect(response.source).toBe(EvaluationSource.DEFAULT);
      }
    });

    test("refuses an empty flag_id", async () => {
      const failure = await failureOf(client().evaluate({ flagId: "", entityId: "user-1" }));
      expect(failure).toEqual({ code: Code.InvalidArgument, message: "Cannot Evaluate: flag_id is empty" });
    });
  });

  describe("BulkEvaluate", () => {
    test("answers every defined flag, ordered, if none is named", async () => {
      const { evaluations } = await client().bulkEvaluate({});
      expect(evaluations).toEqual(
        [BANNER, WEEKLY, PUSH, RETRIES].map((one) => create(EvaluateResponseSchema, one)),
      );
    });

    test.skipIf(kind.startsWith("Connect GET"))(
      "takes as many flags as the limit says and no more",
      async () => {
        const flagIds = Array.from({ length: 10_001 }, () => "a");
        expect(await failureOf(client().bulkEvaluate({ flagIds }))).toEqual({
          code: Code.InvalidArgument,
          message: "Cannot BulkEvaluate: at most 10000 flags in one request, got 10001",
        });
        expect((await client().bulkEvaluate({ flagIds: flagIds.slice(1) })).evaluations).toHaveLength(10_000);
      },
    );

    test("answers one for one, in the order and form asked for", async () => {
      const flagIds = ["notifications.retries", "", "notifications/1", "nobody/1", "notifications/1"];
      const { evaluations } = await client().bulkEvaluate({ flagIds, entityId: "user-1" });
      expect(evaluations.map(({ flagId }) => flagId)).toEqual(flagIds);
      expect(evaluations.map(({ source }) => source)).toEqual([
        EvaluationSource.KILLED,
        EvaluationSource.DEFAULT,
        EvaluationSource.OVERRIDE,
        EvaluationSource.DEFAULT,
        EvaluationSource.OVERRIDE,
      ]);
    });
  });

  describe("GetFlagState", () => {
    test("answers what the store holds, in the form asked for", async () => {
      for (const flagId of ["notifications/1", "notifications.email"]) {
        const { flag, archived } = await client().getFlagState({ flagId });
        expect(flag).toMatchObject({ flagId, state: State.ENABLED, value: flagValue("weekly") });
        expect(archived).toBe(false);
      }
      const killed = await client().getFlagState({ flagId: "notifications/3" });
      expect(killed.flag).toMatchObject({ state: State.KILLED });
      expect(killed.flag?.value).toBeUndefined();
      expect((await client().getFlagState({ flagId: "gone/1" })).archived).toBe(true);
    });

    test("tells an empty id from a missing row", async () => {
      expect((await failureOf(client().getFlagState({}))).code).toBe(Code.InvalidArgument);
      expect(await failureOf(client().getFlagState({ flagId: "nobody/1" }))).toEqual({
        code: Code.NotFound,
        message: 'Cannot find a state of flag "nobody/1"',
      });
      // The message travels in a header: it must not grow with the request.
      const long = await failureOf(client().getFlagState({ flagId: "é".repeat(2_000) }));
      expect(long.code).toBe(Code.NotFound);
      expect(long.message.length).toBeLessThan(200);
    });
  });

  describe("GetKilledFlags", () => {
    test("lists killed flags and killed overrides", async () => {
      const { flagIds, killedOverrides } = await client().getKilledFlags({});
      expect(flagIds).toEqual(["notifications/3"]);
      expect(killedOverrides).toMatchObject([{ flagId: "notifications/2", entityId: "user-1" }]);
    });
  });

  describe("GetOverrides", () => {
    const email = {
      flagId: "notifications/1",
      entityId: "user-1",
      state: State.ENABLED,
      value: flagValue("never"),
    };
    const push = { flagId: "notifications/2", entityId: "user-1", state: State.KILLED };
    const asMessages = (...overrides: readonly (typeof email | typeof push)[]) =>
      overrides.map((override) => create(OverrideStateSchema, override));

    test("lists all of an entity's", async () => {
      expect((await client().getOverrides({ entityId: "user-1" })).overrides).toEqual(
        asMessages(email, push),
      );
      expect((await client().getOverrides({ entityId: "user-2" })).overrides).toEqual([]);
    });

    test("lists those of the flags that are named, by id or alias", async () => {
      const flagIds = ["notifications.push", "nobody/1", "notifications/1", "notifications/1"];
      const { overrides } = await client().getOverrides({ entityId: "user-1", flagIds });
      expect(overrides).toEqual(asMessages({ ...push, flagId: "notifications.push" }, email));
    });

    test("refuses an empty entity_id", async () => {
      expect((await failureOf(client().getOverrides({ flagIds: ["notifications/1"] }))).code).toBe(
        Code.InvalidArgument,
      );
    });
  });

  describe("Health", () => {
    test("tells how the store is doing", async () => {
      const health = await client().health({});
      expect(health.status).toBe(EvaluatorStatus.SERVING);
      expect(health.secondsSinceServerContact).toBeGreaterThanOrEqual(0n);
      expect(health.secondsSinceServerContact).toBeLessThan(600n);
      expect(health.cachedFlagCount).toBeGreaterThanOrEqual(2);
      expect(health.consecutiveFailures).toBe(0);
    });
  });
});

describe("with a store that never answered", () => {
  let away: Served;
  let awayClients: EvaluatorClients;

  beforeAll(async () => {
    away = await serveMemory({ storeAway: true });
    awayClients = openEvaluatorClients(away.port);
  });

  afterAll(async () => {
    awayClients[Symbol.dispose]();
    await away[Symbol.asyncDispose]();
  });

  test.each(CLIENT_KINDS)("evaluates, and says of state that it does not know it: %s", async (kind) => {
    const client = awayClients.of[kind];
    const { value, source } = await client.evaluate({ flagId: "notifications/1", entityId: "user-1" });
    expect([value, source]).toEqual([flagValue("daily"), EvaluationSource.DEFAULT]);
    expect((await failureOf(client.getKilledFlags({}))).code).toBe(Code.Unavailable);
    expect((await failureOf(client.getFlagState({ flagId: "notifications/1" }))).code).toBe(Code.Unavailable);
    expect((await failureOf(client.getOverrides({ entityId: "user-1" }))).code).toBe(Code.Unavailable);
    expect((await client.health({})).secondsSinceServerContact).toBe(-1n);
  });
});
