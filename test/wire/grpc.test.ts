import { once } from "node:events";
import { fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../src/gen/grpc/health/v1/health_pb.ts";
import {
  ServerReflection,
  type ServerReflectionRequestSchema,
  type ServerReflectionResponse,
} from "../../src/gen/grpc/reflection/v1/reflection_pb.ts";
import * as alpha from "../../src/gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { EvaluationSource, FlagEvaluatorService } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { eventually } from "../support/eventually.ts";
import { flagValue } from "../support/flag-builders.ts";
import { type GrpcJsClient, openGrpcJsClient } from "../support/wire-clients.ts";
import { type Served, serveMemory } from "./serve-memory.ts";

let served: Served;
let client: GrpcJsClient;

beforeAll(async () => {
  served = await serveMemory();
  client = openGrpcJsClient(`127.0.0.1:${served.port}`);
});

afterAll(async () => {
  client[Symbol.dispose]();
  await served[Symbol.asyncDispose]();
});

describe("FlagEvaluatorService", () => {
  const { evaluate, bulkEvaluate, getFlagState } = FlagEvaluatorService.method;

  test("answers", async () => {
    const response = await client.unary(evaluate, { flagId: "notifications/1", entityId: "user-1" });
    expect(response).toMatchObject({ value: flagValue("never"), source: EvaluationSource.OVERRIDE });
    expect((await client.unary(bulkEvaluate, {})).evaluations).toHaveLength(4);
  });

  test("answers many calls on one connection at a time", async () => {
    const calls = Array.from({ length: 200 }, () => client.unary(evaluate, { flagId: "notifications/3" }));
    for (const { value } of await Promise.all(calls)) expect(value).toEqual(flagValue(5n));
  });

  test("fails with gRPC's codes and a message", async () => {
    await expect(client.unary(evaluate, {})).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: "Cannot Evaluate: flag_id is empty",
    });
    await expect(client.unary(getFlagState, { flagId: "nobody/1" })).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
  });

  test("calls a procedure that does not exist unimplemented", async () => {
    const unknown = { ...evaluate, name: "Nothing" };
    await expect(client.unary(unknown, { flagId: "a" })).rejects.toMatchObject({
      code: status.UNIMPLEMENTED,
    });
  });
});

describe("gRPC health", () => {
  const { check, watch } = Health.method;

  test("serves the server and its services once ready", async () => {
    for (const service of ["", "pbflags.v1.FlagEvaluatorService"]) {
      expect((await client.unary(check, { service })).status).toBe(ServingStatus.SERVING);
    }
    await expect(client.unary(check, { service: "nobody" })).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
  });

  test("does not serve before it is ready, and tells watchers of every change", async () => {
    await using starting = await serveMemory({ storeAway: true });
    using startingClient = openGrpcJsClient(`127.0.0.1:${starting.port}`);
    expect((await startingClient.unary(check, {})).status).toBe(ServingStatus.NOT_SERVING);

    const stream = startingClient.serverStream(watch, {});
    const seen: ServingStatus[] = [];
    stream.on("data", (message: { status: ServingStatus }) => seen.push(message.status));
    const ended = once(stream, "end");
    await eventually(() => seen.length === 1);
    starting.store.away = false;
    await eventually(() => seen.length === 2);
    expect((await startingClient.unary(check, {})).status).toBe(ServingStatus.SERVING);

    starting.stop();
    await ended;
    expect(seen).toEqual([ServingStatus.NOT_SERVING, ServingStatus.SERVING, ServingStatus.NOT_SERVING]);
    expect((await startingClient.unary(check, {})).status).toBe(ServingStatus.NOT_SERVING);
  }, 40_000);

  test("tells a watcher of an unknown service so, and lets it go when it likes", async () => {
    const before = served.rpcs.length;
    const stream = client.serverStream(watch, { service: "nobody" });
    const [message] = await once(stream, "data");
    expect(message).toMatchObject({ status: ServingStatus.SERVICE_UNKNOWN });
    const failed = once(stream, "error");
    stream.cancel();
    await failed;
    await eventually(() => served.rpcs.length > before);
    expect(served.rpcs.at(-1)).toMatchObject({ procedure: "grpc.health.v1.Health/Watch", code: "canceled" });
    expect(served.internalErrors).toEqual([]);
  });
});

describe("server reflection", () => {
  type Question = MessageInitShape<typeof ServerReflectionRequestSchema>;

  /** Asks everything over one stream, as grpcurl does, and closes it. */
  async function ask(...questions: readonly NonNullable<Question["messageRequest"]>[]) {
    const stream = client.bidi(ServerReflection.method.serverReflectionInfo);
    const answers: ServerReflectionResponse["messageResponse"][] = [];
    stream.on("data", ({ messageResponse }: ServerReflectionResponse) => answers.push(messageResponse));
    const ended = once(stream, "end");
    for (const messageRequest of questions) stream.write({ host: "", messageRequest });
    stream.end();
    await ended;
    return answers;
  }

  function fileNames(answer: ServerReflectionResponse["messageResponse"] | undefined): string[] {
    if (answer?.case !== "fileDescriptorResponse") throw new Error(`expected files, got ${answer?.case}`);
    return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
  }

  test("lists the services", async () => {
    const [answer] = await ask({ case: "listServices", value: "" });
    expect(answer).toMatchObject({
      case: "listServicesResponse",
      value: {
        service: [
          { name: "grpc.health.v1.Health" },
          { name: "grpc.reflection.v1.ServerReflection" },
          { name: "grpc.reflection.v1alpha.ServerReflection" },
          { name: "pbflagd.v1.StateService" },
          { name: "pbflagd.v1.UpstreamService" },
          { name: "pbflagd.v1.WatchService" },
          { name: "pbflags.v1.FlagEvaluatorService" },
        ],
      },
    });
  });

  test("hands out the files that tools need, with what they import", async () => {
    const answers = await ask(
      { case: "fileContainingSymbol", value: "pbflags.v1.FlagEvaluatorService" },
      { case: "fileContainingSymbol", value: "pbflags.v1.FlagEvaluatorService.Evaluate" },
      { case: "fileContainingSymbol", value: "pbflags.v1.FlagValue.string_value" },
      { case: "fileByFilename", value: "grpc/health/v1/health.proto" },
    );
    expect(answers.map(fileNames)).toEqual([
      ["pbflags/v1/evaluator.proto", "pbflags/v1/types.proto"],
      ["pbflags/v1/evaluator.proto", "pbflags/v1/types.proto"],
      ["pbflags/v1/types.proto"],
      ["grpc/health/v1/health.proto"],
    ]);
  });

  test("answers what it does not have with an error, and goes on", async () => {
    const answers = await ask(
      { case: "fileByFilename", value: "nobody.proto" },
      {
        case: "fileContainingExtension",
        value: {
          containingType: "pbflags.v1.FlagValue",
          extensionNumber: 7,
        },
      },
      { case: "allExtensionNumbersOfType", value: "pbflags.v1.FlagValue" },
      { case: "listServices", value: "" },
    );
    expect(answers).toMatchObject([
      { case: "errorResponse", value: { errorCode: status.NOT_FOUND } },
      { case: "errorResponse", value: { errorCode: status.NOT_FOUND } },
      {
        case: "allExtensionNumbersResponse",
        value: { baseTypeName: "pbflags.v1.FlagValue", extensionNumber: [] },
      },
      { case: "listServicesResponse" },
    ]);
  });

  test("serves v1alpha as well", async () => {
    const stream = client.bidi(alpha.ServerReflection.method.serverReflectionInfo);
    stream.write({
      messageRequest: { case: "fileByFilename", value: "pbflags/v1/types.proto" },
    });
    const [answer] = await once(stream, "data");
    stream.end();
    expect(fileNames(answer.messageResponse)).toEqual(["pbflags/v1/types.proto"]);
  });

  test("ends its streams when the daemon stops", async () => {
    await using stopping = await serveMemory();
    using stoppingClient = openGrpcJsClient(`127.0.0.1:${stopping.port}`);
    const stream = stoppingClient.bidi(ServerReflection.method.serverReflectionInfo);
    stream.write({
      messageRequest: { case: "listServices", value: "" },
    });
    await once(stream, "data");
    const end = once(stream.resume(), "status");
    stopping.stop();
    expect(await end).toMatchObject([{ code: status.OK }]);
  });
});
