import { execFile } from "node:child_process";
import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http";
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  type Settings as Http2Settings,
  type IncomingHttpStatusHeader,
} from "node:http2";
import { connect, type Socket } from "node:net";
import { Duplex } from "node:stream";
import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import {
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Client as GrpcClient,
} from "@grpc/grpc-js";
import { FlagEvaluatorService } from "../../src/gen/pbflags/v1/evaluator_pb.ts";

/** The ways in which generated clients speak to the evaluator. */
export const CLIENT_KINDS = [
  "Connect, proto, HTTP/1.1",
  "Connect, JSON, HTTP/1.1",
  "Connect, proto, HTTP/2",
  "Connect, JSON, HTTP/2",
  "Connect GET, proto, HTTP/1.1",
  "Connect GET, JSON, HTTP/2",
  "gRPC, HTTP/2",
  "gRPC-web, HTTP/1.1",
  "gRPC-web, HTTP/2",
] as const;

export type ClientKind = (typeof CLIENT_KINDS)[number];
export type EvaluatorClient = Client<typeof FlagEvaluatorService>;

export interface EvaluatorClients extends Disposable {
  readonly of: Readonly<Record<ClientKind, EvaluatorClient>>;
}

/** A generated client of each kind. */
export function openEvaluatorClients(port: number): EvaluatorClients {
  const baseUrl = `http://127.0.0.1:${port}`;
  const agent = new Agent({ keepAlive: true });
  // In megabytes. With Node's 10, a client does not take a dozen large answers side by side.
  const sessions = new Http2SessionManager(baseUrl, undefined, { maxSessionMemory: 100 });
  const http1 = { baseUrl, httpVersion: "1.1" as const, nodeOptions: { agent } };
  const http2 = { baseUrl, httpVersion: "2" as const, sessionManager: sessions };
  const over = (transport: Transport) => createClient(FlagEvaluatorService, transport);
  return {
    of: {
      "Connect, proto, HTTP/1.1": over(createConnectTransport({ ...http1, useBinaryFormat: true })),
      "Connect, JSON, HTTP/1.1": over(createConnectTransport({ ...http1, useBinaryFormat: false })),
      "Connect, proto, HTTP/2": over(createConnectTransport({ ...http2, useBinaryFormat: true })),
      "Connect, JSON, HTTP/2": over(createConnectTransport({ ...http2, useBinaryFormat: false })),
      "Connect GET, proto, HTTP/1.1": over(
        createConnectTransport({ ...http1, useBinaryFormat: true, useHttpGet: true }),
      ),
      "Connect GET, JSON, HTTP/2": over(
        createConnectTransport({ ...http2, useBinaryFormat: false, useHttpGet: true }),
      ),
      "gRPC, HTTP/2": over(createGrpcTransport({ baseUrl, sessionManager: sessions })),
      "gRPC-web, HTTP/1.1": over(createGrpcWebTransport(http1)),
      "gRPC-web, HTTP/2": over(createGrpcWebTransport(http2)),
    },
    [Symbol.dispose]() {
      agent.destroy();
      sessions.abort();
    },
  };
}

/** A client of the gRPC project itself, for any service of ours. */
export interface GrpcJsClient extends Disposable {
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>>;
  serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
  ): ClientReadableStream<MessageShape<O>>;
  bidi<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
  ): ClientDuplexStream<MessageInitShape<I>, MessageShape<O>>;
}

/** `address` as gRPC writes it: `127.0.0.1:9201`, `unix:/path`. */
export function openGrpcJsClient(address: string): GrpcJsClient {
  const client = new GrpcClient(address, credentials.createInsecure());
  return {
    unary: (method, request) =>
      new Promise((resolve, reject) => {
        const { path, serialize, deserialize } = codecOf(method);
        client.makeUnaryRequest(
          path,
          serialize,
          deserialize,
          create(method.input, request),
          (error, response) => {
            if (error !== null) reject(error);
            else if (response === undefined) reject(new Error("no response and no error"));
            else resolve(response);
          },
        );
      }),
    serverStream(method, request) {
      const { path, serialize, deserialize } = codecOf(method);
      return client.makeServerStreamRequest(path, serialize, deserialize, request);
    },
    bidi(method) {
      const { path, serialize, deserialize } = codecOf(method);
      return client.makeBidiStreamRequest(path, serialize, deserialize);
    },
    [Symbol.dispose]: () => client.close(),
  };
}

function codecOf<I extends DescMessage, O extends DescMessage>(method: {
  readonly parent: { readonly typeName: string };
  readonly name: string;
  readonly input: I;
  readonly output: O;
}) {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    serialize: (message: MessageInitShape<I>) =>
      Buffer.from(toBinary(method.input, create(method.input, message))),
    deserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
  };
}

export interface PlainRequest {
  readonly method?: string;
  readonly path: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string | Uint8Array;
}

export interface PlainResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** One request over a connection of its own, with nothing but Node's HTTP/1.1 client. */
export function sendHttp1(
  port: number,
  { method = "GET", path, headers = {}, body }: PlainRequest,
): Promise<PlainResponse> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { port, host: "127.0.0.1", method, path, headers, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.once("error", reject);
        response.once("end", () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks),
          }),
        );
      },
    );
    request.once("error", reject);
    request.end(body);
  });
}

/** One JSON call, as somebody writes it who has no generated client. */
export async function postJson(
  port: number,
  path: string,
  message: unknown,
): Promise<{ status: number; json: unknown }> {
  const response = await sendHttp1(port, {
    method: "POST",
    path,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(message),
  });
  return { status: response.status, json: JSON.parse(response.body.toString()) };
}

/** A session of Node's HTTP/2 client that is open. Errors it dies of are left to its streams. */
export async function openHttp2(port: number, settings: Http2Settings = {}): Promise<ClientHttp2Session> {
  const session = connectHttp2(`http://127.0.0.1:${port}`, { settings });
  session.on("error", () => {});
  await once(session, "connect");
  return session;
}

/** All that Node's HTTP/2 client says to follow a stream of Connect's from its beginning, to be said by other means. */
export async function recordHttp2Request(path: string): Promise<Buffer> {
  const said: Buffer[] = [];
  const recorder = new Duplex({
    read() {},
    write(piece: Buffer, _, done) {
      said.push(piece);
      done();
    },
  });
  const session = connectHttp2("http://127.0.0.1", { createConnection: () => recorder });
  const stream = session.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/connect+proto",
  });
  stream.on("error", () => {});
  stream.end(Buffer.alloc(5));
  await once(stream, "finish");
  const request = Buffer.concat(said);
  session.destroy();
  return request;
}

/** One request over a session. */
export function sendHttp2(
  session: ClientHttp2Session,
  { method = "GET", path, headers = {}, body }: PlainRequest,
): Promise<PlainResponse & { readonly trailers: IncomingHttpHeaders }> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": method, ":path": path, ...headers });
    const chunks: Buffer[] = [];
    let answer: IncomingHttpHeaders & IncomingHttpStatusHeader = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on("response", (received) => {
      answer = received;
    });
    stream.on("trailers", (received) => {
      trailers = received;
    });
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.once("error", reject);
    stream.once("close", () => {
      const { ":status": status, ...rest } = answer;
      if (status === undefined) reject(new Error(`no response, stream closed with ${stream.rstCode}`));
      else resolve({ status, headers: rest, body: Buffer.concat(chunks), trailers });
    });
    stream.end(body);
  });
}

/** A connection on which a test says whatever it likes. Collects what comes back. */
export interface RawConnection {
  readonly socket: Socket;
  /** Everything received so far, as latin1. */
  readonly received: () => string;
  /** Resolves once the other side has closed it, however roughly. */
  readonly closed: Promise<void>;
}

export async function openRaw(port: number): Promise<RawConnection> {
  const socket = connect({ port, host: "127.0.0.1" });
  let text = "";
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
  });
  socket.on("error", () => {});
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  await Promise.race([once(socket, "connect"), closed]);
  return { socket, received: () => text, closed };
}

/** Runs curl. Undefined if this machine has none. */
export function runCurl(args: readonly string[], input = ""): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const child = execFile("curl", ["--silent", "--show-error", ...args], (error, stdout) => {
      if (error === null) resolve(stdout);
      else if (error.code === "ENOENT") resolve(undefined);
      else reject(error);
    });
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}
