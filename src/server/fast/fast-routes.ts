import { encodeField, fieldWriter } from "../http2/hpack/hpack-encoder.ts";
import type { Http2Exchange } from "../http2/http2-exchange.ts";
import type { PlainExchange, PlainHandler } from "../listener/plain-route.ts";
import { AGE, VERSION } from "../worth.ts";
import { CONTENT_TYPES } from "./content-types.ts";
import { type FastAnswer, type FastCallOptions, MESSAGE_BYTES_MAX, serveFast } from "./fast-calls.ts";
import type { FastRpc, Form } from "./fast-rpcs.ts";
import { CONNECT, type Dialect, formOf, GRPC } from "./plain-call.ts";
import { FRAME_HEADER_BYTES, messageIn } from "./read-frame.ts";

/** What is done with an answer, and with what cannot be answered so, whatever the version of HTTP. */
interface Exchange {
  fallThrough(): void;
  destroy(): void;
}

interface FastRoutes<E extends Exchange> {
  readonly dialectOf: (contentType: string | undefined) => Dialect;
  readonly reply: (
    exchange: E,
    saying: { readonly dialect: Dialect; readonly form: Form },
    answer: FastAnswer,
  ) => void;
}

/** Connect's unary calls over HTTP/1.1, POST, past Node's server. */
export function createFastPlain(
  rpcs: readonly FastRpc[],
  options: FastCallOptions,
): PlainHandler<PlainExchange> {
  return createFastRoutes(rpcs, options, {
    dialectOf: () => CONNECT,
    reply(exchange, { form }, { body, worth, encoding, isCompressed }) {
      let fields = `content-type: ${CONTENT_TYPES[form]}\r\ncontent-length: ${body.length}\r\n`;
      if (worth !== undefined) fields += `${VERSION}: ${worth.version}\r\n${AGE}: ${worth.ageMs}\r\n`;
      if (isCompressed && encoding !== undefined) fields += `${CONNECT.encoding}: ${encoding}\r\n`;
      exchange.reply(fields, body);
    },
  });
}

const OK = encodeField(":status", "200");
const versionField = fieldWriter(VERSION);
const ageField = fieldWriter(AGE);
const lengthField = fieldWriter("content-length");
const OK_TRAILERS = encodeField("grpc-status", "0");
const HEADS: Readonly<Record<Form, string>> = {
  proto: OK + encodeField("content-type", CONTENT_TYPES.proto),
  json: OK + encodeField("content-type", CONTENT_TYPES.json),
  grpc: OK + encodeField("content-type", CONTENT_TYPES.grpc),
};

/** gRPC's unary calls, and Connect's, over HTTP/2. */
export function createFastHttp2(
  rpcs: readonly FastRpc[],
  options: FastCallOptions,
): PlainHandler<Http2Exchange> {
  return createFastRoutes(rpcs, options, {
    dialectOf: (contentType) => (GRPC.forms.has(contentType) ? GRPC : CONNECT),
    reply(exchange, { dialect, form }, { body, worth, encoding, isCompressed }) {
      let block = HEADS[form];
      if (worth !== undefined) block += versionField(worth.version) + ageField(worth.ageMs);
      // gRPC names it though a short message is not compressed.
      if (encoding !== undefined && (isCompressed || dialect === GRPC))
        block += encodeField(dialect.encoding, encoding);
      if (dialect === GRPC) exchange.reply(block, body, OK_TRAILERS);
      else exchange.reply(block + lengthField(String(body.length)), body, undefined);
    },
  });
}

function createFastRoutes<E extends Exchange>(
  rpcs: readonly FastRpc[],
  options: FastCallOptions,
  { dialectOf, reply }: FastRoutes<E>,
): PlainHandler<E> {
  const byPath = new Map(rpcs.map((rpc) => [`/${rpc.procedure}`, rpc]));
  const messageBytesMax = Math.min(options.bodyBytesMax, MESSAGE_BYTES_MAX);

  return ({ path, headers }) => {
    const rpc = byPath.get(path);
    const dialect = dialectOf(headers["content-type"]);
    const form = formOf(headers, dialect);
    if (rpc === undefined || form === undefined) return undefined;
    const saying = { dialect, form };
    return {
      bodyBytesMax: form === "grpc" ? messageBytesMax + FRAME_HEADER_BYTES : messageBytesMax,
      answer(body, exchange) {
        const message = form === "grpc" ? messageIn(body) : body;
        if (message === undefined) {
          exchange.fallThrough();
          return;
        }
        serveFast(
          {
            rpc,
            dialect,
            form,
            headers,
            message,
            send: (answer) => reply(exchange, saying, answer),
            fallThrough: () => exchange.fallThrough(),
            destroy: () => exchange.destroy(),
          },
          options,
        );
      },
      cutOff() {
        const { procedure } = rpc;
        options.onRpc({ procedure, protocol: dialect.protocol, code: "canceled", durationMs: 0 });
      },
    };
  };
}
