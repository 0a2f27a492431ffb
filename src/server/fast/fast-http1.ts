import { IncomingMessage, ServerResponse } from "node:http";
import { ConnectError } from "@connectrpc/connect";
import { takeBody } from "../rpc/request-body.ts";
import { limitsOf, type RpcHandler } from "../rpc/rpc-handlers.ts";
import { AGE, VERSION } from "../worth.ts";
import { CONTENT_TYPES } from "./content-types.ts";
import { type FastAnswer, type FastCallOptions, serveFast } from "./fast-calls.ts";
import type { FastRpc, Form } from "./fast-rpcs.ts";
import { CONNECT, formOf, isPlain } from "./plain-call.ts";
import { type QueryMessage, readQuery } from "./read-query.ts";

export interface FastHttp1Options extends FastCallOptions {
  /** Answers what does not go the fast way. */
  readonly otherwise: RpcHandler;
}

/** Connect's unary calls over HTTP/1.1, POST and GET. */
export function createFastHttp1(rpc: FastRpc, options: FastHttp1Options): RpcHandler {
  const { otherwise } = options;
  const limits = limitsOf(options);

  function post(request: IncomingMessage, response: ServerResponse, form: Form): void {
    takeBody(request, request.headers["content-length"], limits, (body) => {
      const fallThrough = () => otherwise(request, response, body);
      if (body instanceof ConnectError) fallThrough();
      else serve(request, response, { form, message: body, fallThrough });
    });
  }

  function get(request: IncomingMessage, response: ServerResponse): void {
    const fallThrough = () => otherwise(request, response);
    const asked = messageOfGet(request);
    if (asked === undefined) fallThrough();
    else serve(request, response, { ...asked, fallThrough });
  }

  function serve(
    { headers }: IncomingMessage,
    response: ServerResponse,
    call: QueryMessage & { readonly fallThrough: () => void },
  ): void {
    const { form, message, fallThrough } = call;
    serveFast(
      {
        rpc,
        dialect: CONNECT,
        form,
        headers,
        message,
        send: (answer) => send(response, form, answer),
        fallThrough,
        destroy: () => response.destroy(),
      },
      options,
    );
  }

  return (request, response) => {
    // Over HTTP/2 the fast way begins before there is a request and a response.
    const isHttp1 = request instanceof IncomingMessage && response instanceof ServerResponse;
    const form = isHttp1 && request.method === "POST" ? formOf(request.headers, CONNECT) : undefined;
    if (isHttp1 && form !== undefined) post(request, response, form);
    else if (isHttp1 && request.method === "GET") get(request, response);
    else otherwise(request, response);
  };
}

function messageOfGet({ headers, url = "" }: IncomingMessage): QueryMessage | undefined {
  const isUsual = headers["content-type"] === undefined && isPlain(headers, CONNECT);
  return isUsual ? readQuery(url) : undefined;
}

/** Names and values in turn, as Node writes them fastest. */
function send(response: ServerResponse, form: Form, answer: FastAnswer): void {
  const { body, worth, encoding, isCompressed } = answer;
  const head = ["content-type", CONTENT_TYPES[form], "content-length", String(body.length)];
  if (worth !== undefined) head.push(VERSION, worth.version, AGE, worth.ageMs);
  if (isCompressed && encoding !== undefined) head.push(CONNECT.encoding, encoding);
  response.writeHead(200, head);
  response.end(body, "latin1");
}
