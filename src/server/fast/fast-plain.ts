import type { PlainExchange, PlainHandler, PlainRoute } from "../listener/plain-route.ts";
import { AGE, VERSION } from "../worth.ts";
import { CONTENT_TYPES } from "./content-types.ts";
import { type FastAnswer, type FastCallOptions, MESSAGE_BYTES_MAX, serveFast } from "./fast-calls.ts";
import type { FastRpc, Form } from "./fast-rpcs.ts";
import { CONNECT, formOf } from "./plain-call.ts";

/** Connect's unary calls over HTTP/1.1, POST, past Node's server. */
export function createFastPlain(rpcs: readonly FastRpc[], options: FastCallOptions): PlainHandler {
  const byPath = new Map(rpcs.map((rpc) => [`/${rpc.procedure}`, rpc]));
  const bodyBytesMax = Math.min(options.bodyBytesMax, MESSAGE_BYTES_MAX);

  function routeTo(rpc: FastRpc, form: Form, headers: Readonly<Record<string, string>>): PlainRoute {
    return {
      bodyBytesMax,
      answer(message, exchange) {
        serveFast(
          {
            rpc,
            dialect: CONNECT,
            form,
            headers,
            message,
            send: (answer) => reply(exchange, form, answer),
            fallThrough: () => exchange.fallThrough(),
            destroy: () => exchange.destroy(),
          },
          options,
        );
      },
      cutOff() {
        const { procedure } = rpc;
        options.onRpc({ procedure, protocol: CONNECT.protocol, code: "canceled", durationMs: 0 });
      },
    };
  }

  return ({ path, headers }) => {
    const rpc = byPath.get(path);
    const form = formOf(headers, CONNECT);
    return rpc === undefined || form === undefined ? undefined : routeTo(rpc, form, headers);
  };
}

function reply(exchange: PlainExchange, form: Form, answer: FastAnswer): void {
  const { body, worth, encoding, isCompressed } = answer;
  let fields = `content-type: ${CONTENT_TYPES[form]}\r\ncontent-length: ${body.length}\r\n`;
  if (worth !== undefined) fields += `${VERSION}: ${worth.version}\r\n${AGE}: ${worth.ageMs}\r\n`;
  if (isCompressed && encoding !== undefined) fields += `${CONNECT.encoding}: ${encoding}\r\n`;
  exchange.reply(fields, body);
}
