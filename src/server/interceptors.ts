import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import type { Clock } from "../system/clock.ts";
import type { Rpc } from "../telemetry/call-counts.ts";
import type { Tracing } from "../telemetry/tracing.ts";
import { codeOf, nameOf, procedureOf, protocolOf } from "./rpc/codes.ts";
import { type Permit, permitAll } from "./rpc/permit.ts";
import { reached } from "./rpc/reached.ts";

export interface InterceptorOptions {
  readonly clock: Pick<Clock, "now">;
  /** Undefined: nothing is traced, and a call costs nothing. */
  readonly tracing: Pick<Tracing, "traceRpc"> | undefined;
  /** Unset: everybody may do everything. */
  readonly permit?: Permit;
  readonly onRpc: (rpc: Rpc) => void;
  /** An exception that nobody expected: our bug. */
  readonly onInternalError: (error: unknown, procedure: string) => void;
}

/** What every call passes through, outermost first. */
export function createInterceptors({
  clock,
  tracing,
  permit = permitAll,
  onRpc,
  onInternalError,
}: InterceptorOptions): Interceptor[] {
  return [
    ...(tracing === undefined ? [] : [trace(tracing)]),
    measure(clock, onRpc),
    ask(permit),
    blameParsing,
    reportUnexpected(onInternalError),
  ];
}

/** Streams leave no span: they last as long as their client likes. */
function trace(tracing: Pick<Tracing, "traceRpc">): Interceptor {
  return (next) => (request) =>
    request.stream
      ? next(request)
      : tracing.traceRpc(
          {
            procedure: procedureOf(request.method),
            protocol: protocolOf(request.header.get("content-type")),
            header: (name) => request.header.get(name) ?? undefined,
            codeOf: (error) => nameOf(codeOf(error)),
          },
          () => next(request),
        );
}

function ask(permit: Permit): Interceptor {
  return (next) => (request) => {
    const refusal = permit({
      procedure: procedureOf(request.method),
      header: (name) => request.header.get(name) ?? undefined,
    });
    return refusal === undefined ? next(request) : Promise.reject(refusal);
  };
}

function measure(clock: Pick<Clock, "now">, onRpc: (rpc: Rpc) => void): Interceptor {
  return (next) => async (request) => {
    request.contextValues.set(reached, true);
    const startedAt = clock.now();
    const record = (code: Rpc["code"]) =>
      onRpc({
        procedure: procedureOf(request.method),
        protocol: protocolOf(request.header.get("content-type")),
        code,
        durationMs: clock.now() - startedAt,
      });
    try {
      const response = await next(request);
      if (response.stream) return { ...response, message: recordEnd(response.message, record) };
      record("ok");
      return response;
    } catch (error) {
      record(nameOf(codeOf(error)));
      throw error;
    }
  };
}

async function* recordEnd<T>(
  messages: AsyncIterable<T>,
  record: (code: Rpc["code"]) => void,
): AsyncGenerator<T> {
  // What it is if the client leaves first.
  let code: Rpc["code"] = "canceled";
  try {
    yield* messages;
    code = "ok";
  } catch (error) {
    code = nameOf(codeOf(error));
    throw error;
  } finally {
    record(code);
  }
}

/** Messages of a stream that cannot be parsed are the caller's mistake; connect-es calls them INTERNAL. */
const blameParsing: Interceptor = (next) => (request) =>
  next(request.stream ? { ...request, message: blameCaller(request.message) } : request);

async function* blameCaller<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    if (!(error instanceof ConnectError) || error.code !== Code.Internal) throw error;
    throw new ConnectError(error.rawMessage, Code.InvalidArgument, undefined, undefined, error);
  }
}

function reportUnexpected(onInternalError: InterceptorOptions["onInternalError"]): Interceptor {
  return (next) => async (request) => {
    const translate = (error: unknown) => {
      if (error instanceof ConnectError) return error;
      onInternalError(error, procedureOf(request.method));
      return new ConnectError("internal error", Code.Internal);
    };
    try {
      const response = await next(request);
      return response.stream
        ? { ...response, message: translateErrors(response.message, translate) }
        : response;
    } catch (error) {
      throw translate(error);
    }
  };
}

async function* translateErrors<T>(
  messages: AsyncIterable<T>,
  translate: (error: unknown) => unknown,
): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw translate(error);
  }
}
