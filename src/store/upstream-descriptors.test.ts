import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { poolSettings } from "../../test/support/fake-upstream.ts";
import { noStream } from "../../test/support/no-stream.ts";
import { silentPoolEvents } from "../../test/support/silent-events.ts";
import { GetDescriptorSetResponseSchema, GetStatusResponseSchema } from "../gen/pbflagd/v1/state_pb.ts";
import { EvaluatorStatus, HealthResponseSchema } from "../gen/pbflags/v1/evaluator_pb.ts";
import { openUpstreamPool } from "../upstream/pool/pool.ts";
import type { Transport } from "../upstream/transport/transport.ts";
import { UpstreamError } from "../upstream/upstream-error.ts";
import { fetchDescriptorSet } from "./upstream-descriptors.ts";

const SET = { hash: "abc", descriptorSet: Uint8Array.of(1, 2, 3) };

type Part = typeof SET & { readonly totalBytes?: bigint };

interface Played {
  readonly kind?: "pbflagd" | "pbflags";
  /** What it makes of GetDescriptorSet. */
  readonly answer: (knownHash: string, offset: number) => Part | Promise<Part>;
}

/** A pool of upstreams in this process, by name, each of which has been checked. */
async function setUp(upstreams: Readonly<Record<string, Played>>) {
  const clock = new FakeClock();
  const asked: string[] = [];
  const failed: string[] = [];
  const pool = openUpstreamPool({
    settings: poolSettings(Object.keys(upstreams).map((name) => ({ name }))),
    openTransport: ({ name }) => transportOf(name, upstreams[name], (rpc) => asked.push(`${name} ${rpc}`)),
    clock,
    random: () => 0.5,
    events: {
      ...silentPoolEvents,
      onCall: (name, operation, _, error) => {
        if (error !== undefined) failed.push(`${name} ${operation}`);
      },
    },
  });
  onTestFinished(() => pool[Symbol.asyncDispose]());
  await settle();
  asked.length = 0;
  const end = new AbortController();
  const fetch = (knownHash = "") => fetchDescriptorSet(pool, { knownHash, clock, signal: end.signal });
  return { clock, pool, asked, failed, fetch, end };
}

function transportOf(name: string, played: Played | undefined, onCall: (rpc: string) => void): Transport {
  const { kind = "pbflagd", answer = () => SET } = played ?? {};
  return {
    target: `http://${name}:9201`,
    async call(method, request, { signal }) {
      onCall(method.name);
      if (kind === "pbflags" && method.name !== "Health")
        throw new UpstreamError("unimplemented", `${name} answered unimplemented`, { answered: true });
      switch (method.name) {
        case "Health":
          return as(method.output, HealthResponseSchema, { status: EvaluatorStatus.SERVING });
        case "GetStatus":
          return as(method.output, GetStatusResponseSchema, { status: EvaluatorStatus.SERVING });
        default: {
          const { knownHash = "", offset = 0n } = request as { knownHash?: string; offset?: bigint };
          const over = new Promise<never>((_, reject) =>
            signal.addEventListener("abort", () => reject(signal.reason), { once: true }),
          );
          return as(
            method.output,
            GetDescriptorSetResponseSchema,
            await Promise.race([answer(knownHash, Number(offset)), over]),
          );
        }
      }
    },
    stream: noStream,
    async [Symbol.asyncDispose]() {},
  };
}

/** The message as the caller's own schema has it. */
function as<O extends DescMessage, S extends DescMessage>(output: O, schema: S, init: MessageInitShape<S>) {
  return fromBinary(output, toBinary(schema, create(schema, init)));
}

function fail(code: string, answered: boolean): Played {
  return {
    answer: () => Promise.reject(new UpstreamError(code, `a answered ${code}`, { answered })),
  };
}

test("brings the set and its hash", async () => {
  const { fetch, asked } = await setUp({ a: { answer: () => SET } });
  expect(await fetch()).toEqual({ hash: "abc", bytes: SET.descriptorSet });
  expect(asked).toEqual(["a GetDescriptorSet"]);
});

test("brings a long set part by part, anew where it changes meanwhile", async () => {
  const sets = { abc: Uint8Array.of(1, 2, 3, 4, 5), def: Uint8Array.of(6, 7, 8) };
  let hash: keyof typeof sets = "abc";
  const { fetch, asked } = await setUp({
    a: {
      answer(_, offset) {
        const set = sets[hash];
        const part = {
          hash,
          descriptorSet: set.subarray(offset, offset + 2),
          totalBytes: BigInt(set.length),
        };
        if (offset === 2) hash = "def";
        return part;
      },
    },
  });
  expect(await fetch()).toEqual({ hash: "def", bytes: Buffer.from(sets.def) });
  expect(asked).toHaveLength(5);
});

test("a set that says it is longer than any may be is not read", async () => {
  const scene = await setUp({ a: { answer: () => ({ ...SET, totalBytes: 2n ** 40n }) } });
  const fetching = scene.fetch().catch(String);
  await settle();
  await scene.clock.advance(100);
  expect(await fetching).toContain("must have at most 67108864 bytes, got 1099511627776");
  // Once, and tried once more.
  expect(scene.asked).toHaveLength(2);
});

test("brings no bytes where the set is known", async () => {
  const known: string[] = [];
  const { fetch } = await setUp({
    a: {
      answer(knownHash) {
        known.push(knownHash);
        return { hash: "abc", descriptorSet: new Uint8Array() };
      },
    },
  });
  expect(await fetch("abc")).toEqual({ hash: "abc", bytes: undefined });
  expect(known).toEqual(["abc"]);
});

test("says of a plain evaluator that descriptors must be set, asking it for nothing it does not know", async () => {
  const { fetch, asked, failed } = await setUp({ a: { kind: "pbflags", answer: () => SET } });
  await expect(fetch()).rejects.toMatchObject({
    code: "failed_precondition",
    message: "Cannot take descriptors from a: it is a plain pbflags evaluator, so descriptors must be set",
  });
  expect(asked).toEqual(["a Health"]);
  expect(failed).toEqual([]);
});

test("says of a pbflagd that does not know the RPC that descriptors must be set", async () => {
  const { fetch } = await setUp({ a: fail("unimplemented", true) });
  await expect(fetch()).rejects.toThrow("Cannot take descriptors from a: it does not know this RPC");
});

test("an upstream that has none yet says so, and stays as good an upstream as before", async () => {
  const { fetch, pool, failed } = await setUp({ a: fail("unavailable", true) });
  for (let i = 0; i < 20; i += 1)
    await expect(fetch()).rejects.toMatchObject({ code: "unavailable", message: "a answered unavailable" });
  expect(pool.upstreams).toMatchObject([{ state: "up", breaker: "closed", lastError: undefined }]);
  expect(failed).toEqual([]);
});

test("asks another upstream where one fails, which counts against that one", async () => {
  const scene = await setUp({ a: fail("unavailable", false), b: { answer: () => SET } });
  const [first, second] = [scene.fetch(), scene.fetch()];
  await settle();
  await scene.clock.advance(100);
  expect(await Promise.all([first, second])).toMatchObject([{ hash: "abc" }, { hash: "abc" }]);
  expect(scene.failed).toEqual(["a descriptor_set"]);
});

test("gives an upstream seconds to send a set, gives up after 5 s, and says who did not answer", async () => {
  const scene = await setUp({ a: { answer: () => new Promise(() => {}) } });
  let error: unknown;
  scene.fetch().catch((reason: unknown) => {
    error = reason;
  });
  await settle();
  await scene.clock.advance(2_400);
  expect(scene.failed).toEqual([]);
  await scene.clock.advance(2_600);
  expect(error).toMatchObject({
    code: "deadline_exceeded",
    message: expect.stringContaining("http://a:9201"),
  });
});

test("ends when it is no longer wanted, and holds that against nobody", async () => {
  const scene = await setUp({ a: { answer: () => new Promise(() => {}) } });
  const fetching = Promise.allSettled([scene.fetch()]);
  await settle();
  scene.end.abort(new Error("no longer wanted"));
  expect(await fetching).toMatchObject([{ status: "rejected", reason: new Error("no longer wanted") }]);
  expect(scene.failed).toEqual([]);
});
