import { once } from "node:events";
import { request } from "node:http";
import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "vitest";
import { UpstreamService } from "../../src/gen/pbflagd/v1/upstreams_pb.ts";
import { eventually } from "../support/eventually.ts";
import { EXAMPLE_UPSTREAMS, FakePool } from "../support/fake-pool.ts";
import { openGrpcJsClient, postJson, sendHttp1 } from "../support/wire-clients.ts";
import { type Served, serveMemory } from "./serve-memory.ts";

const { listUpstreams, resetUpstream, checkUpstreams } = UpstreamService.method;
const path = (name: string) => `/${UpstreamService.typeName}/${name}`;

let pool: FakePool;
let proxy: Served;

beforeEach(async () => {
  pool = new FakePool(...EXAMPLE_UPSTREAMS);
  proxy = await serveMemory({ upstreams: pool });
});

afterEach(async () => {
  await proxy[Symbol.asyncDispose]();
});

test("upstreams are listed in JSON by hand, by POST and by GET", async () => {
  const { status: code, json } = await postJson(proxy.port, path("ListUpstreams"), {});
  expect({ code, json }).toMatchObject({
    code: 200,
    json: {
      upstreams: [
        {
          name: "root-a",
          state: "UPSTREAM_STATE_UP",
          kind: "UPSTREAM_KIND_PBFLAGD",
          score: 3,
          version: { epoch: "one", revision: "1042" },
          checkedAt: "2026-01-02T03:04:05Z",
        },
        { name: "root-b", breaker: "BREAKER_STATE_OPEN" },
      ],
    },
  });
  const got = await sendHttp1(proxy.port, {
    method: "GET",
    path: `${path("ListUpstreams")}?connect=v1&encoding=json&message=%7B%7D`,
  });
  expect(JSON.parse(got.body.toString())).toEqual(json);
});

test("upstreams are listed, reset and checked over gRPC", async () => {
  using client = openGrpcJsClient(`127.0.0.1:${proxy.port}`);
  const { upstreams } = await client.unary(listUpstreams, {});
  expect(upstreams.map(({ name }) => name)).toEqual(["root-a", "root-b"]);
  const { upstream } = await client.unary(resetUpstream, { name: "root-b" });
  expect(upstream?.name).toBe("root-b");
  await expect(client.unary(resetUpstream, { name: "nobody" })).rejects.toMatchObject({
    code: status.NOT_FOUND,
    details: 'Cannot reset "nobody": no such upstream. There are: root-a, root-b',
  });
  await client.unary(checkUpstreams, {});
  expect(pool.sweeps).toHaveLength(1);
  expect(proxy.rpcs.map(({ procedure, code }) => [procedure, code])).toEqual([
    ["pbflagd.v1.UpstreamService/ListUpstreams", "ok"],
    ["pbflagd.v1.UpstreamService/ResetUpstream", "ok"],
    ["pbflagd.v1.UpstreamService/ResetUpstream", "not_found"],
    ["pbflagd.v1.UpstreamService/CheckUpstreams", "ok"],
  ]);
});

test("a reset and a check, which have effects, are not done by GET", async () => {
  for (const name of ["ResetUpstream", "CheckUpstreams"]) {
    const got = await sendHttp1(proxy.port, {
      method: "GET",
      path: `${path(name)}?connect=v1&encoding=json&message=%7B%22name%22%3A%22root-b%22%7D`,
    });
    expect(got.status).toBe(405);
  }
  expect([pool.resets, pool.sweeps]).toEqual([[], []]);
});

test("a client that leaves ends the check that it asked for", async () => {
  pool.sweep = (signal) => new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
  const asked = request({
    port: proxy.port,
    method: "POST",
    path: path("CheckUpstreams"),
    headers: { "content-type": "application/json" },
  });
  const failed = once(asked, "error");
  asked.end("{}");
  await eventually(() => pool.sweeps.length === 1);
  asked.destroy(new Error("left"));
  await failed;
  await eventually(() => pool.sweeps[0]?.aborted === true);
  await eventually(() => proxy.rpcs.length === 1);
  expect(proxy.rpcs[0]).toMatchObject({ code: "canceled" });
  expect(proxy.internalErrors).toEqual([]);
});

test("a check does not keep the daemon from stopping", async () => {
  pool.sweep = () => new Promise(() => {});
  const answer = postJson(proxy.port, path("CheckUpstreams"), {});
  await eventually(() => pool.sweeps.length === 1);
  proxy.stop();
  expect(await answer).toEqual({
    status: 503,
    json: { code: "unavailable", message: "Cannot check the upstreams: the daemon is stopping" },
  });
  expect(proxy.internalErrors).toEqual([]);
});
