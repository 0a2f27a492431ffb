import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { State } from "../gen/pbflags/v1/types_pb.ts";
import type { Reached } from "../upstream/pool/upstream-pool.ts";
import { DeadlineError } from "../upstream/transport/deadline.ts";
import { UpstreamError } from "../upstream/upstream-error.ts";
import type { Batch } from "./flag-store.ts";
import { PlainReads } from "./plain-reads.ts";

/** What comes of asking for one key: a row, nothing in time, or an error that was answered, by its code. */
type Outcome = "row" | "late" | (string & {});

/** An upstream to which the same happens with each key until the test says otherwise. */
function openUpstream(outcomes: Record<string, Outcome>) {
  const asked: string[] = [];
  const upstream: Reached = {
    name: "a",
    kind: "pbflags",
    async call(method, request) {
      const { flagId = "", entityId = "" } = request as {
        readonly flagId?: string;
        readonly entityId?: string;
      };
      const key = flagId || entityId;
      asked.push(key);
      const outcome = outcomes[key] ?? "row";
      if (outcome === "late") throw new DeadlineError("no answer within 250 ms");
      if (outcome !== "row") throw new UpstreamError(outcome, `a answered ${outcome}`, { answered: true });
      const answer = entityId === "" ? { flag: { flagId, state: State.ENABLED } } : {};
      return create(method.output, answer as never);
    },
  };
  return { upstream, asked, outcomes };
}

function show({ value, untold = new Set() }: Batch<{ readonly invalid?: string }>) {
  return {
    rows: [...value].map(([key, { invalid }]) => (invalid === undefined ? key : `${key} invalid`)),
    untold: [...untold],
  };
}

const keysOf = (count: number) => Array.from({ length: count }, (_, i) => `k${i}`);

test("what there was no time for is untold, and so is what was refused meanwhile", async () => {
  const { upstream, outcomes } = openUpstream({ k1: "internal", k3: "late" });
  const reads = new PlainReads();
  expect(show(await reads.flagStates(upstream, keysOf(4)))).toEqual({
    rows: ["k0", "k2"],
    untold: ["k1", "k3"],
  });
  // The time sufficed: it cannot tell that one, although it can tell others.
  outcomes["k3"] = "row";
  expect(show(await reads.flagStates(upstream, ["k1", "k3"]))).toEqual({
    rows: ["k1 invalid", "k3"],
    untold: [],
  });
});

test("a flag that was refused while others were told is known to be refused also when it is asked for alone", async () => {
  const { upstream } = openUpstream({ k1: "internal", k2: "late" });
  const reads = new PlainReads();
  expect(show(await reads.flagStates(upstream, ["k1"]))).toEqual({ rows: [], untold: ["k1"] });
  await reads.flagStates(upstream, ["k0", "k1", "k2"]);
  expect(show(await reads.flagStates(upstream, ["k1"]))).toEqual({ rows: ["k1 invalid"], untold: [] });
});

test("flags that were refused are asked for last, so that they do not take the others' time", async () => {
  const flagIds = keysOf(40);
  // The first sixteen are refused, and then the time is over: that is an answer.
  const outcomes = Object.fromEntries(flagIds.map((id, i) => [id, i < 16 ? "internal" : "late"]));
  const { upstream, asked } = openUpstream(outcomes);
  const reads = new PlainReads();
  expect(show(await reads.flagStates(upstream, flagIds))).toEqual({ rows: [], untold: flagIds });
  for (const id of flagIds.slice(16)) outcomes[id] = "row";
  asked.length = 0;
  const { rows } = show(await reads.flagStates(upstream, flagIds));
  expect(asked).toEqual([...flagIds.slice(16), ...flagIds.slice(0, 16)]);
  expect(rows).toEqual(flagIds.map((id, i) => (i < 16 ? `${id} invalid` : id)));
});

test("no more are asked for once the time is over; whoever says itself that it took too long is asked on", async () => {
  const { upstream, asked, outcomes } = openUpstream({ k0: "deadline_exceeded" });
  const reads = new PlainReads();
  expect(show(await reads.flagStates(upstream, keysOf(100)))).toMatchObject({ untold: ["k0"] });
  expect(asked).toHaveLength(100);
  asked.length = 0;
  for (const key of keysOf(100)) outcomes[key] = "late";
  await expect(reads.flagStates(upstream, keysOf(100))).rejects.toThrow("no answer within 250 ms");
  expect(asked).toHaveLength(16);
});

test("of entities, what there was no time for and what was refused is untold", async () => {
  const { upstream, outcomes } = openUpstream({ k1: "internal", k2: "late", k3: "unavailable" });
  const reads = new PlainReads();
  const { value, untold } = await reads.overrides(upstream, keysOf(5));
  expect([value.size, [...(untold ?? [])]]).toEqual([0, ["k1", "k2", "k3"]]);
  outcomes["k3"] = "unauthenticated";
  await expect(reads.overrides(upstream, keysOf(5))).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(reads.overrides(upstream, ["k2"])).rejects.toThrow("no answer within 250 ms");
});
