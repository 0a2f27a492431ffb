import { type Client, Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { settle } from "../../test/support/fake-clock.ts";
import { EXAMPLE_UPSTREAMS, FakePool, reportOf } from "../../test/support/fake-pool.ts";
import {
  BreakerState,
  UpstreamKind,
  UpstreamService,
  UpstreamState,
} from "../gen/pbflagd/v1/upstreams_pb.ts";
import { EvaluatorStatus } from "../gen/pbflags/v1/evaluator_pb.ts";
import { createUpstreamService, type ListedPool } from "./upstream-service.ts";

test("lists the upstreams in the order of the pool, with what is known of each", async () => {
  const { upstreams } = await clientOf(new FakePool(...EXAMPLE_UPSTREAMS)).listUpstreams({});
  expect(upstreams).toMatchObject([
    {
      name: "root-a",
      target: "http://root-a:9201",
      state: UpstreamState.UP,
      kind: UpstreamKind.PBFLAGD,
      score: 3,
      breaker: BreakerState.CLOSED,
      inFlight: 2,
      latencyMs: 1.44,
      status: EvaluatorStatus.SERVING,
      version: { epoch: "one", revision: 1_042n },
      lastError: "",
      checkedAt: { seconds: BigInt(Date.UTC(2026, 0, 2, 3, 4, 5) / 1_000), nanos: 0 },
      priority: 10,
      weight: 1,
    },
    {
      name: "root-b",
      state: UpstreamState.DOWN,
      kind: UpstreamKind.UNSPECIFIED,
      score: -3,
      breaker: BreakerState.OPEN,
      status: EvaluatorStatus.UNSPECIFIED,
      lastError: "Cannot reach http://root-b:9201: connect ECONNREFUSED 10.0.0.8:9201",
      lastErrorAt: { nanos: 500_000_000 },
      weight: 0.5,
    },
  ]);
  const [well, unwell] = upstreams;
  expect([well?.lastErrorAt, unwell?.latencyMs, unwell?.version]).toEqual([undefined, undefined, undefined]);
});

test.each([
  ["refused", UpstreamState.REFUSED],
  ["draining", UpstreamState.DRAINING],
] as const)("one that is %s is shown so", async (state, expected) => {
  const pool = new FakePool(reportOf("a", { state, kind: "pbflags", breaker: "half-open", score: 0 }));
  const { upstreams } = await clientOf(pool).listUpstreams({});
  expect(upstreams).toMatchObject([
    { state: expected, kind: UpstreamKind.PBFLAGS, breaker: BreakerState.HALF_OPEN, score: 0 },
  ]);
});

test("resets the breaker of one, and answers how it is then", async () => {
  const pool = new FakePool(...EXAMPLE_UPSTREAMS);
  const { upstream } = await clientOf(pool).resetUpstream({ name: "root-b" });
  expect(pool.resets).toEqual(["root-b"]);
  expect(upstream).toMatchObject({ name: "root-b", breaker: BreakerState.CLOSED, lastError: "" });
});

test("a name that does not exist is answered with those that do", async () => {
  const client = clientOf(new FakePool(...EXAMPLE_UPSTREAMS));
  await expect(client.resetUpstream({ name: "root-z" })).rejects.toMatchObject({
    code: Code.NotFound,
    rawMessage: 'Cannot reset "root-z": no such upstream. There are: root-a, root-b',
  });
  await expect(client.resetUpstream({ name: "" })).rejects.toMatchObject({ code: Code.InvalidArgument });
});

test("a long name and a large pool make no long message", async () => {
  const pool = new FakePool(...Array.from({ length: 1_000 }, (_, i) => reportOf(`up${i}`)));
  const error = await clientOf(pool)
    .resetUpstream({ name: "x".repeat(100_000) })
    .catch((caught: unknown) => ConnectError.from(caught));
  expect(error).toMatchObject({ code: Code.NotFound });
  expect(ConnectError.from(error).rawMessage).toMatch(/^Cannot reset "x{100}…": .* up19 and 980 more$/);
});

test("in root mode there are none to list, to check or to reset", async () => {
  const client = clientOf(undefined);
  expect((await client.listUpstreams({})).upstreams).toEqual([]);
  expect((await client.checkUpstreams({})).upstreams).toEqual([]);
  await expect(client.resetUpstream({ name: "a" })).rejects.toMatchObject({ code: Code.NotFound });
});

test("a check answers what came out of it", async () => {
  const pool = new FakePool(reportOf("a", { state: "down" }));
  pool.sweep = async () => {
    await settle();
    pool.upstreams = [reportOf("a", { state: "up" })];
  };
  const { upstreams } = await clientOf(pool).checkUpstreams({});
  expect(upstreams).toMatchObject([{ name: "a", state: UpstreamState.UP }]);
});

test("a hundred who ask for a check at once share one sweep, and the next one begins another", async () => {
  const pool = new FakePool(reportOf("a"));
  const sweep = hold(pool);
  const client = clientOf(pool);
  const answers = Array.from({ length: 100 }, () => client.checkUpstreams({}));
  await settle();
  expect(pool.sweeps).toHaveLength(1);
  sweep.finish();
  for (const { upstreams } of await Promise.all(answers)) expect(upstreams).toHaveLength(1);

  await client.checkUpstreams({});
  expect(pool.sweeps).toHaveLength(2);
});

test("a large pool, of which each check listens for the end, is no leak to Node", async () => {
  const warnings: Error[] = [];
  const note = (warning: Error) => warnings.push(warning);
  process.on("warning", note);
  try {
    const pool = new FakePool(reportOf("a"));
    pool.sweep = async (signal) => {
      for (let i = 0; i < 100; i += 1) signal.addEventListener("abort", () => {});
    };
    await clientOf(pool).checkUpstreams({});
    await settle();
  } finally {
    process.off("warning", note);
  }
  expect(warnings).toEqual([]);
});

test("a sweep goes on while somebody waits for it, and ends when the last one has gone", async () => {
  const pool = new FakePool(reportOf("a"));
  hold(pool);
  const client = clientOf(pool);
  const callers = [new AbortController(), new AbortController()] as const;
  const answers = callers.map(({ signal }) => client.checkUpstreams({}, { signal }).catch(codeOf));
  await settle();
  callers[0].abort();
  await settle();
  expect(pool.sweeps.map(({ aborted }) => aborted)).toEqual([false]);
  callers[1].abort();
  expect(await Promise.all(answers)).toEqual([Code.Canceled, Code.Canceled]);
  expect(pool.sweeps.map(({ aborted }) => aborted)).toEqual([true]);
});

test("who comes after a sweep was given up gets one that is not", async () => {
  const pool = new FakePool(reportOf("a"));
  const first = hold(pool);
  const client = clientOf(pool);
  const caller = new AbortController();
  const given = client.checkUpstreams({}, { signal: caller.signal }).catch(codeOf);
  await settle();
  caller.abort();
  await settle();
  const second = hold(pool);
  const answer = client.checkUpstreams({});
  await settle();
  first.finish();
  await settle();
  expect(pool.sweeps.map(({ aborted }) => aborted)).toEqual([true, false]);
  second.finish();
  expect((await answer).upstreams).toHaveLength(1);
  expect(await given).toBe(Code.Canceled);
});

test("a check that the daemon's end cuts short says so instead of showing old results", async () => {
  const pool = new FakePool(reportOf("a"));
  hold(pool);
  const stopping = new AbortController();
  const answer = clientOf(pool, stopping.signal).checkUpstreams({}).catch(codeOf);
  await settle();
  stopping.abort();
  expect(await answer).toBe(Code.Unavailable);
  expect(pool.sweeps.map(({ aborted }) => aborted)).toEqual([true]);
});

function clientOf(pool: ListedPool | undefined, stopping?: AbortSignal): Client<typeof UpstreamService> {
  const transport = createRouterTransport(
    (router) => router.service(UpstreamService, createUpstreamService(pool)),
    { router: stopping === undefined ? {} : { shutdownSignal: stopping } },
  );
  return createClient(UpstreamService, transport);
}

/** The pool's next sweeps last until they are told to finish. */
function hold(pool: FakePool): { readonly finish: () => void } {
  let finish = () => {};
  const finished = new Promise<void>((resolve) => (finish = resolve));
  pool.sweep = () => finished;
  return { finish };
}

function codeOf(error: unknown): Code {
  return ConnectError.from(error).code;
}
