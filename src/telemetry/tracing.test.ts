import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { beforeAll, expect, inject, test } from "vitest";
import { bundleScript, linkPackages } from "../../test/support/bundle.ts";
import { openHttpFront } from "../../test/support/http-front.ts";
import { asRecord, openOtlpCollector } from "../../test/support/otlp-collector.ts";

// The SDK belongs to a process and is loaded into it for good, so each test runs a process of its own.

let script: string;
beforeAll(async () => {
  const folder = join(inject("runFolder"), "tracing");
  await linkPackages(folder);
  script = await bundleScript(new URL("../../test/support/traced.ts", import.meta.url), folder);
});

const CALLER_TRACE = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN = "b7ad6b7169203331";

/** What a daemon does with tracing, for two requests at once, the first with a caller's trace. */
const TWO_REQUESTS = `
  import { setTimeout as sleep } from "node:timers/promises";
  const request = (flagId, traceparent) =>
    tracing.traceRpc(
      {
        procedure: "pbflags.v1.FlagEvaluatorService/Evaluate",
        protocol: "grpc",
        header: (name) => ({ traceparent, tracestate: traceparent && "vendor=1" })[name],
        codeOf: () => "internal",
      },
      async () => {
        await sleep(5);
        return tracing.traceEvaluate({ flagId }, async () => {
          await sleep(5);
          return tracing.traceStoreCall({ backend: "db", operation: "flag_state" }, async () => {
            await sleep(5);
            return tracing.outgoingHeaders();
          });
        });
      },
    );
  const headers = await Promise.all([
    request("a/1", "00-${CALLER_TRACE}-${CALLER_SPAN}-01"),
    request("b/2", undefined),
  ]);
  await tracing.traceStoreCall({ backend: "db", operation: "killed_flags" }, async () => {});
  await tracing[Symbol.asyncDispose]();
  console.log(JSON.stringify({ headers, problems }));
`;

test("an RPC, its evaluation and its store call form one trace, continued from the caller's", async () => {
  await using collector = await openOtlpCollector();
  const output = await runTraced(TWO_REQUESTS, {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
  });
  expect(output).toMatchObject({ problems: [] });

  const spans = collector.spans();
  expect(spans.map(({ name }) => name).toSorted()).toEqual([
    "evaluate",
    "evaluate",
    "pbflags.v1.FlagEvaluatorService/Evaluate",
    "pbflags.v1.FlagEvaluatorService/Evaluate",
    "store flag_state",
    "store flag_state",
  ]);
  for (const flagId of ["a/1", "b/2"]) {
    const evaluate = only(spans.filter((span) => span.attributes["feature_flag.key"] === flagId));
    const rpc = only(spans.filter((span) => span.spanId === evaluate.parentSpanId));
    const store = only(spans.filter((span) => span.parentSpanId === evaluate.spanId));
    expect(rpc.name).toBe("pbflags.v1.FlagEvaluatorService/Evaluate");
    expect(store.name).toBe("store flag_state");
    expect(new Set([rpc.traceId, evaluate.traceId, store.traceId]).size).toBe(1);
    expect([rpc.kind, evaluate.kind, store.kind]).toEqual([SERVER, INTERNAL, CLIENT]);
    expect(rpc.parentSpanId).toBe(flagId === "a/1" ? CALLER_SPAN : undefined);
    expect(rpc.traceId === CALLER_TRACE).toBe(flagId === "a/1");
    expect(rpc.attributes).toMatchObject({
      "rpc.system": "grpc",
      "rpc.service": "pbflags.v1.FlagEvaluatorService",
      "rpc.method": "Evaluate",
      "rpc.grpc.status_code": 0,
    });
    expect(output["headers"]).toContainEqual(
      expect.objectContaining({ traceparent: `00-${store.traceId}-${store.spanId}-01` }),
    );
  }
  expect(output["headers"]).toContainEqual(expect.objectContaining({ tracestate: "vendor=1" }));
});

test("only traces are exported, and no resource holds the command line with the secrets in it", async () => {
  await using collector = await openOtlpCollector();
  await runTraced(
    TWO_REQUESTS,
    { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" },
    ["--database=postgres://bob:hunter2@db/flags"],
  );
  expect(new Set(collector.requests.map(({ path }) => path))).toEqual(new Set(["/v1/traces"]));
  const body = JSON.stringify(collector.requests);
  expect(body).not.toContain("hunter2");
  expect(collector.resource()).toMatchObject({ "service.name": "pbflagd", "service.version": "1.2.3" });
});

test("the service's name is the operator's to set", async () => {
  await using collector = await openOtlpCollector();
  await runTraced(TWO_REQUESTS, {
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${collector.url}/v1/traces`,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/json",
    OTEL_SERVICE_NAME: "flags-eu",
  });
  expect(collector.resource()).toMatchObject({ "service.name": "flags-eu" });
});

test("an RPC that fails carries its code, and is an error only if the server is at fault", async () => {
  await using collector = await openOtlpCollector();
  const output = await runTraced(
    `
      for (const [protocol, code] of [["connect", "internal"], ["connect", "not_found"], ["grpc-web", "unavailable"]]) {
        const rpc = { procedure: "a.B/" + code, protocol, header: () => undefined, codeOf: (error) => error.message };
        await tracing.traceRpc(rpc, async () => { throw new Error(code); }).catch(() => {});
      }
      const thrown = [];
      try {
        const rpc = { procedure: "a.B/sync", protocol: "connect", header: () => undefined, codeOf: () => "ok" };
        tracing.traceRpc(rpc, () => tracing.traceEvaluate({ flagCount: 3 }, () => { throw new TypeError("secret"); }));
      } catch (error) { thrown.push(error.message); }
      await tracing[Symbol.asyncDispose]();
      console.log(JSON.stringify({ thrown }));
    `,
    { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" },
  );
  expect(output).toEqual({ thrown: ["secret"] });

  const byName = new Map(collector.spans().map((span) => [span.name, span]));
  expect(byName.get("a.B/internal")).toMatchObject({
    status: { code: ERROR },
    attributes: { "rpc.system": "connect_rpc", "rpc.connect_rpc.error_code": "internal" },
  });
  expect(byName.get("a.B/not_found")?.status.code).not.toBe(ERROR);
  expect(byName.get("a.B/not_found")?.attributes["rpc.connect_rpc.error_code"]).toBe("not_found");
  expect(byName.get("a.B/unavailable")).toMatchObject({
    status: { code: ERROR },
    attributes: { "rpc.grpc.status_code": 14 },
  });
  expect(byName.get("evaluate")).toMatchObject({
    status: { code: ERROR },
    attributes: { "pbflags.flag_count": 3, "error.type": "TypeError" },
  });
  expect(JSON.stringify(collector.requests)).not.toContain("secret");
});

test("a call that comes to nothing is answered elsewhere, and leaves no span here", async () => {
  await using collector = await openOtlpCollector();
  await runTraced(
    `
      const rpc = (procedure) => ({ procedure, protocol: "connect", header: () => undefined, codeOf: () => "internal" });
      tracing.traceRpc(rpc("a.B/AtOnce"), () => undefined);
      await tracing.traceRpc(rpc("a.B/Later"), async () => undefined);
      tracing.traceRpc(rpc("a.B/Answered"), () => "");
      await tracing[Symbol.asyncDispose]();
      console.log("{}");
    `,
    { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" },
  );
  expect(collector.spans().map(({ name }) => name)).toEqual(["a.B/Answered"]);
});

test("exports over gRPC where no protocol is named", async () => {
  await using collector = await openGrpcCollector();
  await runTraced(TWO_REQUESTS, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url });
  const bytes = Buffer.concat(collector.exports);
  for (const name of ["pbflags.v1.FlagEvaluatorService/Evaluate", "evaluate", "store flag_state"]) {
    expect(bytes.includes(name), name).toBe(true);
  }
  expect(bytes.includes(Buffer.from(CALLER_TRACE, "hex"))).toBe(true);
});

test("what the SDK complains of is reported with what it is about", async () => {
  await using collector = await openHttpFront((request, response) => {
    request.resume();
    response.writeHead(200, { "content-type": "application/x-protobuf" }).end("not protobuf");
  });
  const output = await runTraced(TWO_REQUESTS, {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}`,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
  });
  expect(output["problems"]).toEqual([
    expect.stringMatching(/^OTLPExportDelegate: .*could not deserialize response.*: \w*Error: ./),
  ]);
});

test("a collector that does not answer is reported, and holds up neither calls nor the end", async () => {
  // Accepts connections and says nothing.
  await using collector = await openOtlpCollector({ silent: true });
  const output = await runTraced(TWO_REQUESTS, {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    // The exporter itself would wait for longer than a test may take.
    OTEL_EXPORTER_OTLP_TIMEOUT: "600000",
  });
  expect(output["problems"]).toEqual([
    "Cannot export the last spans: the collector did not answer within 1000 ms",
  ]);
});

const PROBLEMS = `
  await tracing?.[Symbol.asyncDispose]();
  console.log(JSON.stringify({ open: tracing !== undefined, problems }));
`;

test.each(["http://127.0.0.1:99999", "not a url"])(
  "an endpoint that gRPC cannot have, such as %s, is reported, and nothing is traced",
  async (endpoint) => {
    expect(await runTraced(PROBLEMS, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint })).toEqual({
      open: false,
      problems: [expect.stringMatching(/^Cannot trace: .*Invalid URL$/)],
    });
  },
);

const LOADED = `
  import { createRequire } from "node:module";
  const loaded = Object.keys(createRequire("file:///").cache).filter((file) => file.includes("opentelemetry"));
  await tracing?.[Symbol.asyncDispose]();
  console.log(JSON.stringify({ open: tracing !== undefined, loadsSdk: loaded.length > 0 }));
`;

test.each([
  ["no endpoint is set", {}],
  ["the endpoint is empty", { OTEL_EXPORTER_OTLP_ENDPOINT: " " }],
  ["the SDK is disabled", { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1", OTEL_SDK_DISABLED: "true" }],
])("nothing of OpenTelemetry is loaded where %s", async (_what, env) => {
  expect(await runTraced(LOADED, env)).toEqual({ open: false, loadsSdk: false });
});

test("OpenTelemetry is loaded where an endpoint is set, which shows that the test above would notice", async () => {
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" };
  expect(await runTraced(LOADED, env)).toEqual({ open: true, loadsSdk: true });
});

const INTERNAL = 1;
const SERVER = 2;
const CLIENT = 3;
const ERROR = 2;

/** Runs a module that finds `tracing` and `problems` opened, and prints one line of JSON. */
async function runTraced(
  code: string,
  env: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<Readonly<Record<string, unknown>>> {
  const program = `
    import { openTracing, systemClock } from ${JSON.stringify(script)};
    const problems = [];
    const tracing = await openTracing({
      env: process.env,
      serviceVersion: "1.2.3",
      closeTimeoutMs: 1_000,
      onProblem: (message) => problems.push(message),
      clock: systemClock,
    });
    ${code}
    // A collector that hangs keeps the SDK's request alive, which a daemon does not wait for either.
    process.exit(0);
  `;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--input-type=module", "-e", program, "--", ...args],
    { env, timeout: 30_000 },
  );
  return asRecord(JSON.parse(stdout));
}

/** Receives OTLP over gRPC, and keeps the bytes. */
async function openGrpcCollector() {
  const exports: Buffer[] = [];
  const server = new Server();
  server.addService(
    {
      Export: {
        path: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        requestStream: false,
        responseStream: false,
        requestSerialize: (bytes: Buffer) => bytes,
        requestDeserialize: (bytes: Buffer) => bytes,
        responseSerialize: (bytes: Buffer) => bytes,
        responseDeserialize: (bytes: Buffer) => bytes,
      },
    },
    {
      Export(call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>) {
        exports.push(call.request);
        callback(null, Buffer.alloc(0));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return {
    url: `http://127.0.0.1:${port}`,
    exports,
    async [Symbol.asyncDispose]() {
      server.forceShutdown();
    },
  };
}

function only<T>(items: readonly T[]): T {
  const [item, ...others] = items;
  if (item === undefined || others.length > 0)
    throw new Error(`Cannot choose: must be one, got ${items.length}`);
  return item;
}
