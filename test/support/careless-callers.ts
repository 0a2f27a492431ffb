import { create, toBinary } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { EvaluateRequestSchema, FlagEvaluatorService } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { State } from "../../src/gen/pbflags/v1/types_pb.ts";
import { openAdminClients } from "./admin-clients.ts";
import {
  openEvaluatorClients,
  openHttp2,
  openRaw,
  type PlainRequest,
  type PlainResponse,
  sendHttp1,
  sendHttp2,
} from "./wire-clients.ts";

/** Every secret of these callers holds it. */
export const CALLERS_MARK = "Zq7w9caller";

const secret = (what: string) => `${what}${CALLERS_MARK}`;
const base64 = (text: string) => Buffer.from(text).toString("base64");

/** As they stand in headers where not in the clear. */
export const CALLERS_ENCODED = [base64(`me:${secret("password")}`), base64(secret("binary"))];

const HEADERS = {
  authorization: `Bearer ${secret("bearer")}`,
  "proxy-authorization": `Basic ${CALLERS_ENCODED[0]}`,
  cookie: `theme=dark; session=${secret("session")}`,
  "x-api-key": secret("key"),
  "x-of-our-gateway": secret("gateway"),
  "x-ticket-bin": CALLERS_ENCODED[1] ?? "",
  baggage: `user=${secret("baggage")}`,
};
const QUERY = `api_key=${secret("query")}`;
const HEAD = Object.entries({ host: "x", ...HEADERS })
  .map(([name, value]) => `${name}: ${value}\r\n`)
  .join("");

/** What callers who show their secrets with everything they ask were told. */
export interface Told {
  /** Answers and errors, headers and trailers included. */
  readonly texts: readonly string[];
  readonly statuses: ReadonlySet<number>;
}

/**
 * Callers of the evaluator who show their secrets with whatever they ask: in each protocol what can be answered, and what has
 * to be refused. A daemon that they find is to give up slow requests soon.
 */
export async function callCarelessly(port: number): Promise<Told> {
  const answers = await Promise.all([askInEachProtocol(port), sendEach(port, REQUESTS), sayEach(port)]);
  const responses = answers[1];
  return {
    texts: [...answers[0], ...responses.map((response) => JSON.stringify(toText(response))), ...answers[2]],
    statuses: new Set(responses.flatMap((response) => ("status" in response ? response.status : []))),
  };
}

/** The same of the admin service. */
export async function administerCarelessly(port: number): Promise<Told> {
  using clients = openAdminClients(port);
  const texts = await Promise.all(
    Object.values(clients.of).flatMap((client) => [
      tellAll((options) => client.getFlag({ flagId: "shop/1" }, options)),
      tellAll((options) => client.getFlag({ flagId: "ghost/1" }, options)),
      tellAll((options) => client.listFeatures({}, options)),
      tellAll((options) => client.getAuditLog({ flagId: "shop/3" }, options)),
      tellAll((options) =>
        client.updateFlagState({ flagId: "shop/6", state: State.DEFAULT, actor: "ann" }, options),
      ),
      tellAll((options) => client.updateFlagState({ flagId: "shop/6" }, options)),
    ]),
  );
  const path = "/pbflags.v1.FlagAdminService/GetFlag";
  const responses = await sendEach(port, [...refusals(path), ...PROBES]);
  return {
    texts: [
      ...texts,
      ...responses.map((response) => JSON.stringify(toText(response))),
      ...(await sayEach(port)),
    ],
    statuses: new Set(responses.flatMap((response) => ("status" in response ? response.status : []))),
  };
}

interface CallOptions {
  readonly headers: Readonly<Record<string, string>>;
  readonly onHeader: (headers: Headers) => void;
  readonly onTrailer: (trailers: Headers) => void;
}

async function tellAll(call: (options: CallOptions) => Promise<object>): Promise<string> {
  const heard: unknown[] = [];
  const hear = (headers: Headers) => void heard.push([...headers]);
  const result = await call({ headers: HEADERS, onHeader: hear, onTrailer: hear }).catch((error: unknown) =>
    error instanceof ConnectError ? [error.message, [...error.metadata]] : String(error),
  );
  return JSON.stringify([result, heard], (_, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
}

let strangers = 0;

async function askInEachProtocol(port: number): Promise<readonly string[]> {
  using clients = openEvaluatorClients(port);
  return await Promise.all(
    Object.values(clients.of).flatMap((client) => [
      tellAll((options) => client.evaluate({ flagId: "shop/1", entityId: "ann" }, options)),
      tellAll((options) =>
        client.evaluate({ flagId: "shop/1", entityId: `stranger-${strangers++}` }, options),
      ),
      tellAll((options) => client.evaluate({ flagId: "ghost/1" }, options)),
      tellAll((options) => client.bulkEvaluate({ flagIds: ["shop/3", "ghost/1"], entityId: "bob" }, options)),
      tellAll((options) => client.getFlagState({ flagId: "ghost/1" }, options)),
      tellAll((options) => client.getOverrides({ entityId: "ann" }, options)),
      tellAll((options) => client.getKilledFlags({}, options)),
    ]),
  );
}

const SERVICE = `/${FlagEvaluatorService.typeName}`;
const EVALUATE = `${SERVICE}/Evaluate`;
const GOOD = toBinary(EvaluateRequestSchema, create(EvaluateRequestSchema, { flagId: "shop/1" }));
const GARBAGE = Buffer.from("ffffffffff", "hex");

function post(path: string, contentType: string, body: string | Uint8Array): PlainRequest {
  return { method: "POST", path, headers: { ...HEADERS, "content-type": contentType }, body };
}

/** What cannot be answered, on the path of a method that takes GET as well. */
function refusals(path: string): readonly PlainRequest[] {
  return [
    post(path, "application/json", "{"),
    post(path, "application/json", '{"flagId": 7}'),
    post(path, "application/proto", GARBAGE),
    post(path, "application/grpc", GARBAGE),
    post(path, "application/grpc-web", GARBAGE),
    post(path, "text/plain", "shop/1"),
    post(`${path}s`, "application/json", "{}"),
    post(`${path}?${QUERY}`, "application/json", "{"),
    post(path, "application/json", Buffer.alloc(2 * 1_024 * 1_024, " ")),
    { ...post(path, "application/json", "{}"), headers: { ...HEADERS, "content-encoding": "none" } },
    { path: `${path}?connect=v1&encoding=json&message=%7B&${QUERY}`, headers: HEADERS },
    { path: `${path}?connect=v1&encoding=none&message=&${QUERY}`, headers: HEADERS },
    { method: "DELETE", path: `${path}?${QUERY}`, headers: HEADERS },
    { path: `/nowhere?${QUERY}`, headers: HEADERS },
    { path: `//me:${secret("password")}@x/nowhere`, headers: HEADERS },
    { path: "/nowhere", headers: { ...HEADERS, "x-large": secret("large").repeat(2_000) } },
  ];
}

const PROBES: readonly PlainRequest[] = ["/healthz", "/readyz", "/metrics"].flatMap((path) => [
  { path: `${path}?${QUERY}`, headers: HEADERS },
  { method: "POST", path, headers: HEADERS },
]);

const REQUESTS: readonly PlainRequest[] = [
  post(EVALUATE, "application/json", '{"flagId": "shop/1"}'),
  post(EVALUATE, "application/proto", GOOD),
  post(`${EVALUATE}?${QUERY}`, "application/proto", GOOD),
  {
    path: `${EVALUATE}?connect=v1&encoding=json&message=%7B%22flagId%22%3A%22shop%2F1%22%7D&${QUERY}`,
    headers: HEADERS,
  },
  ...refusals(EVALUATE),
  ...PROBES,
];

type Outcome = PlainResponse | { readonly failed: string };

/** Each over HTTP/1.1, as most send it and as only Node's server takes it, and over HTTP/2. */
async function sendEach(port: number, requests: readonly PlainRequest[]): Promise<readonly Outcome[]> {
  const session = await openHttp2(port);
  const outcomes = await Promise.all(
    requests
      .flatMap((request) => [
        sendHttp1(port, request),
        sendHttp1(port, { ...request, headers: { ...request.headers, expect: "100-continue" } }),
        sendHttp2(session, request),
      ])
      .map((sent) => sent.catch((error: unknown) => ({ failed: String(error) }))),
  );
  session.destroy();
  return outcomes;
}

function toText(outcome: Outcome) {
  return "failed" in outcome ? outcome : { ...outcome, body: outcome.body.toString("latin1") };
}

/** What is no request, or none that ends; the daemon hangs up. */
const WORDS: readonly string[] = [
  `GET / HTTP/1.1\r\n${HEAD}no colon ${secret("line")}\r\n\r\n`,
  `GET / HTTP/1.1\r\n${HEAD}${secret("name")} : x\r\n\r\n`,
  `GET /?${QUERY} HTTP/9.9\r\n${HEAD}\r\n`,
  `${secret("word")}\r\n\r\n`,
  `POST ${EVALUATE} HTTP/1.1\r\n${HEAD}content-type: application/json\r\ncontent-length: 20\r\n\r\n{`,
  `POST ${EVALUATE} HTTP/1.1\r\n${HEAD}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n${secret("chunk")}\r\n`,
  `POST ${EVALUATE} HTTP/1.1\r\n${HEAD}content-length: 1\r\ncontent-length: 2\r\n\r\n{}`,
  `GET /readyz HTTP/1.1\r\n${HEAD}`,
  `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${secret("frames").repeat(10)}`,
];

async function sayEach(port: number): Promise<readonly string[]> {
  return await Promise.all(
    WORDS.map(async (words) => {
      const { socket, received, closed } = await openRaw(port);
      socket.write(words);
      await closed;
      return received();
    }),
  );
}
