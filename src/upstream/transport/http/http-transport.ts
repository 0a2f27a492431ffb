import { setMaxListeners } from "node:events";
import { create, toBinary } from "@bufbuild/protobuf";
import { toEnvelope } from "../envelopes.ts";
import { linkSignals } from "../linked-signal.ts";
import { parseMessage } from "../parse-message.ts";
import { closedError } from "../socket/dialer.ts";
import type { Transport } from "../transport.ts";
import type { Wire } from "../wire.ts";
import { fromAnswer } from "./connect-answer.ts";
import { post } from "./http-post.ts";
import { streamPost } from "./http-stream.ts";
import { UpstreamAgent } from "./upstream-agent.ts";

/** Connect's unary protocol over HTTP/1.1, on connections that are kept open. */
export function openHttpTransport({
  target,
  dialer,
  connection,
  identity,
  words,
  headers,
  clock,
}: Wire): Transport {
  const agent = new UpstreamAgent(dialer, connection, clock);
  const { compression } = connection;
  // As a flat list they go out as they are; as an object each would be checked and copied.
  const always = Object.entries({
    host: target.authority,
    "content-type": "application/proto",
    "connect-protocol-version": "1",
    ...(compression === "none" ? {} : { "accept-encoding": compression }),
    ...identity,
  }).flat();
  // What a stream says is short: it is never compressed.
  const streaming = Object.entries({
    host: target.authority,
    "content-type": "application/connect+proto",
    "connect-protocol-version": "1",
    ...identity,
  }).flat();
  const more = () => (headers === undefined ? [] : Object.entries(headers()).flat());
  const closing = new AbortController();
  // One for each stream: Node takes more than ten for a leak.
  setMaxListeners(0, closing.signal);

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
          ...more(),
        ],
        body,
        compression,
        words,
        signal,
      });
      return fromAnswer({ target: target.name, words }, method.output, answer);
    },
    async *stream(method, request, signal) {
      const body = toEnvelope(toBinary(method.input, create(method.input, request)));
      using either = linkSignals(signal, closing.signal);
      const messages = streamPost({
        target,
        dialer,
        path: `/${method.parent.typeName}/${method.name}`,
        headers: [...streaming, "content-length", String(body.byteLength), ...more()],
        body,
        words,
        signal: either.signal,
      });
      for await (const message of messages) yield parseMessage(target.name, method.output, message);
    },
    async [Symbol.asyncDispose]() {
      closing.abort(dialer.notReached(closedError()));
      agent.destroy();
      await dialer[Symbol.asyncDispose]();
    },
  };
}
