import { sensitiveHeaders } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { toEnvelope } from "../envelopes.ts";
import { parseMessage } from "../parse-message.ts";
import { closedError } from "../socket/dialer.ts";
import type { Transport } from "../transport.ts";
import type { Wire } from "../wire.ts";
import { fromGrpcAnswer } from "./grpc-answer.ts";
import { makeCall } from "./grpc-call.ts";
import { streamCall } from "./grpc-stream.ts";
import { Http2Connection } from "./http2-connection.ts";

/** gRPC's unary calls over HTTP/2, all on one connection as long as it is good. */
export function openGrpcTransport(wire: Wire): Transport {
  const { target, dialer, connection: settings, identity, words, headers, clock } = wire;
  const { idleTimeoutMs, keepAliveMs, compression } = settings;
  /** The last one opened, and those before it on which calls still run. */
  const open = new Set<Http2Connection>();
  let current: Http2Connection | undefined;
  let isClosed = false;
  const always = {
    ":method": "POST",
    ":scheme": target.secure ? "https" : "http",
    ":authority": target.authority,
    "content-type": "application/grpc+proto",
    te: "trailers",
    ...(compression === "none" ? {} : { "grpc-accept-encoding": compression }),
    ...identity,
    [sensitiveHeaders]: Object.keys(identity),
  };

  function connection(): Http2Connection {
    if (!current?.takesCalls) current = connect();
    return current;
  }

  function connect(): Http2Connection {
    const connection = new Http2Connection({
      socket: dialer.dial(),
      authority: target.authority,
      idleTimeoutMs,
      keepAliveMs,
      clock,
      onClosed: (closed) => open.delete(closed),
    });
    open.add(connection);
    return connection;
  }

  return {
    target: target.name,
    async call(method, request, { at, signal }) {
      signal.throwIfAborted();
      const body = toEnvelope(toBinary(method.input, create(method.input, request)));
      const attempt = () => {
        if (isClosed) throw dialer.notReached(closedError());
        return makeCall({
          connection: connection(),
          dialer,
          target: target.name,
          headers: {
            ...always,
            ":path": `${target.prefix}/${method.parent.typeName}/${method.name}`,
            "grpc-timeout": toTimeout(at - clock.now()),
            ...headers?.(),
          },
          body,
          signal,
        });
      };
      let outcome = await attempt();
      if (outcome.kind === "unprocessed") outcome = await attempt();
      if (outcome.kind !== "answer") throw outcome.error;
      const options = { target: target.name, words, offered: compression, signal };
      return fromGrpcAnswer(method.output, outcome.answer, options);
    },
    async *stream(method, request, signal) {
      signal.throwIfAborted();
      if (isClosed) throw dialer.notReached(closedError());
      // A large answer to somebody else must not hold up what a stream has to say.
      const connection = connect();
      try {
        const messages = streamCall({
          connection,
          dialer,
          target: target.name,
          words,
          headers: {
            ...always,
            "grpc-accept-encoding": "identity",
            ":path": `${target.prefix}/${method.parent.typeName}/${method.name}`,
            ...headers?.(),
          },
          body: toEnvelope(toBinary(method.input, create(method.input, request))),
          signal,
        });
        for await (const message of messages) yield parseMessage(target.name, method.output, message);
      } finally {
        connection.close();
      }
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      for (const connection of open) connection.close(closedError());
      await dialer[Symbol.asyncDispose]();
    },
  };
}

/** Eight digits are the most that gRPC allows. */
function toTimeout(ms: number): string {
  const whole = Math.max(1, Math.ceil(ms));
  return whole < 100_000_000 ? `${whole}m` : `${Math.min(99_999_999, Math.ceil(whole / 1_000))}S`;
}
