import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import {
  ServerReflection,
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import * as alpha from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { type DescriptorIndex, encodeFile, withDependencies } from "./descriptor-index.ts";

/** Questions are names. They are few and short, so that a stream of them costs next to nothing. */
const QUESTION_BYTES_MAX = 16 * 1_024;

/** gRPC server reflection, v1 and v1alpha: lets tools such as grpcurl call us without our protos. */
export function addReflection(router: ConnectRouter, index: DescriptorIndex): void {
  const options = { readMaxBytes: QUESTION_BYTES_MAX };
  router.service(
    ServerReflection,
    {
      async *serverReflectionInfo(questions, { signal }) {
        for await (const question of untilAborted(questions, signal)) yield respond(index, question);
      },
    },
    options,
  );
  router.service(
    alpha.ServerReflection,
    {
      async *serverReflectionInfo(questions, { signal }) {
        for await (const question of untilAborted(questions, signal)) yield respondAlpha(index, question);
      },
    },
    options,
  );
}

/** The older version: the same messages under other names. */
function respondAlpha(index: DescriptorIndex, question: alpha.ServerReflectionRequest) {
  const bytes = toBinary(alpha.ServerReflectionRequestSchema, question);
  const response = respond(index, fromBinary(ServerReflectionRequestSchema, bytes));
  return fromBinary(alpha.ServerReflectionResponseSchema, toBinary(ServerReflectionResponseSchema, response));
}

function respond(index: DescriptorIndex, question: ServerReflectionRequest) {
  return create(ServerReflectionResponseSchema, {
    validHost: question.host,
    originalRequest: question,
    messageResponse: answer(index, question.messageRequest),
  });
}

type Question = ServerReflectionRequest["messageRequest"];
type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/** What the descriptors say. What they do not hold is an answer, too: one question does not end the stream. */
export function answer(index: DescriptorIndex, question: Question): Answer {
  switch (question.case) {
    case "listServices":
      return { case: "listServicesResponse", value: { service: index.services.map((name) => ({ name })) } };
    case "fileByFilename":
      return files(index.fileNamed(question.value), `file ${question.value}`);
    case "fileContainingSymbol":
      return files(index.fileDefining(question.value), `symbol ${question.value}`);
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = question.value;
      const extension = index.extensionsOf(containingType)?.find(({ number }) => number === extensionNumber);
      return files(extension?.file, `extension ${extensionNumber} of ${containingType}`);
    }
    case "allExtensionNumbersOfType": {
      const extensions = index.extensionsOf(question.value);
      if (extensions === undefined) return notFound(`message ${question.value}`);
      const extensionNumber = extensions.map(({ number }) => number).toSorted((a, b) => a - b);
      return {
        case: "allExtensionNumbersResponse",
        value: { baseTypeName: question.value, extensionNumber },
      };
    }
    case undefined:
      break;
  }
  return problem(Code.InvalidArgument, "Cannot answer: the request asks for nothing");
}

function files(file: ReturnType<DescriptorIndex["fileNamed"]>, what: string): Answer {
  if (file === undefined) return notFound(what);
  const fileDescriptorProto = withDependencies(file).map(encodeFile);
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

function notFound(what: string): Answer {
  return problem(Code.NotFound, `Cannot find ${what}`);
}

function problem(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}

/** The same messages, ending early, in good order, when the daemon stops. */
async function* untilAborted<T>(messages: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = messages[Symbol.asyncIterator]();
  for (;;) {
    const next = await unlessAborted(iterator.next(), signal);
    if (next === undefined || next.done === true) return;
    yield next.value;
  }
}

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const stop = () => resolve(undefined);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}
