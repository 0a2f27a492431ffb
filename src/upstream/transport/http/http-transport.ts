import { create, toBinary } from "@bufbuild/protobuf";
import { closedError } from "../socket/dialer.ts";
import type { Transport } from "../transport.ts";
import type { Wire } from "../wire.ts";
import { fromAnswer } from "./connect-answer.ts";
import { post } from "./http-post.ts";
import { UpstreamAgent } from "./upstream-agent.ts";

/** Connect's unary protocol over HTTP/1.1, on connections that are kept open. */
export function openHttpTransport({ target, dialer, connection, identity, headers, clock }: Wire): Transport {
  const agent = new UpstreamAgent(dialer, connection);
  const { compression } = connection;
  // As a flat list they go out as they are; as an object each would be checked and copied.
  const always = Object.entries({
    host: target.authority,
    "content-type": "application/proto",
    "connect-protocol-version": "1",
    ...(compression === "none" ? {} : { "accept-encoding": compression }),
    ...identity,
  }).flat();

  return {
    target: target.name,
    async call(method, request, { at, signal }) {
      if (agent.isClosed) throw dialer.notReached(closedError());
      const body = toBinary(method.input, create(method.input, request));
      const timeoutMs = Math.max(1, Math.ceil(at - clock.now()));
      const answer = await post({
        target,
        agent,
        dialer,
        path: `/${method.parent.typeName}/${method.name}`,
        headers: [
          ...always,
          "connect-timeout-ms",
          String(timeoutMs),
          "content-length",
          String(body.byteLength),
          ...(headers === undefined ? [] : Object.entries(headers()).flat()),
        ],
        body,
        compression,
        signal,
      });
      return fromAnswer(target.name, method.output, answer);
    },
    async [Symbol.asyncDispose]() {
      agent.destroy();
      await dialer[Symbol.asyncDispose]();
    },
  };
}
