import type { ClientHttp2Session, Settings } from "node:http2";
import { afterEach } from "vitest";
import { type DropReason, type HttpServer, openHttpServer } from "../../src/server/http-server.ts";
import { HpackDecoder } from "../../src/server/http2/hpack/hpack-decoder.ts";
import { encodeField } from "../../src/server/http2/hpack/hpack-encoder.ts";
import type { Http2Exchange } from "../../src/server/http2/http2-exchange.ts";
import type { HttpRequest, HttpResponse } from "../../src/server/listener/exchange.ts";
import type { ConnectionLimits } from "../../src/server/listener/node-servers.ts";
import type { PlainHandler } from "../../src/server/listener/plain-route.ts";
import type { Clock } from "../../src/system/clock.ts";
import { DEFAULT_LIMITS } from "../wire/serve-memory.ts";
import { eventually } from "./eventually.ts";
import { FakeClock } from "./fake-clock.ts";
import { block } from "./hpack-writer.ts";
import {
  ACK,
  END_HEADERS,
  END_STREAM,
  type ErrorName,
  errorAt,
  frame,
  PREFACE,
  type ReadFrame,
  readFrames,
  SETTINGS,
} from "./http2-frames.ts";
import { openHttp2, openRaw, type RawConnection } from "./wire-clients.ts";

/** A server that tells who answered, and clients of HTTP/2 that write their frames themselves. */
export interface Http2Scene extends AsyncDisposable {
  readonly server: HttpServer;
  readonly port: number;
  readonly drops: readonly DropReason[];
  /** Those so far. One that is never taken is thrown at the end. */
  takeInternalErrors(): readonly unknown[];
  /** What was answered, by whom: `plain 1`, `node POST 2`. */
  readonly answered: readonly string[];
  /** Plain requests to /later, for the test to answer. */
  readonly later: readonly { readonly exchange: Http2Exchange; readonly body: string }[];
  /** Requests to /hold that are not plain, of which nothing is read. */
  readonly held: readonly { readonly request: HttpRequest; readonly response: HttpResponse }[];
  /** Paths of plain requests that were cut off. */
  readonly cutOff: readonly string[];
  /** A connection on which `first` is said behind the preface; settings that say nothing, if unset. */
  connect(first?: string): Promise<FrameClient>;
  /** A session of Node's client. */
  openSession(settings?: Settings): Promise<ClientHttp2Session>;
}

/** Of plain requests. */
export const BODY_BYTES_MAX = 64 * 1_024;

export interface SceneOptions {
  readonly limits?: Partial<ConnectionLimits>;
  /** One that stands still unless set: nothing is late, however slow the machine is. */
  readonly clock?: Clock;
}

/**
 * Plain are /echo and /trailers, answered with their bodies, /bytes/n with n bytes, /later, and /fall, which falls through.
 * Whatever else comes is answered with its method and its body, but for /mistake, at which an exception is thrown.
 */
export async function openHttp2Scene({
  limits = {},
  clock = new FakeClock(),
}: SceneOptions = {}): Promise<Http2Scene> {
  const drops: DropReason[] = [];
  const internalErrors: unknown[] = [];
  const answered: string[] = [];
  const later: { exchange: Http2Exchange; body: string }[] = [];
  const held: { request: HttpRequest; response: HttpResponse }[] = [];
  const cutOff: string[] = [];
  const clients: FrameClient[] = [];
  const sessions: ClientHttp2Session[] = [];

  const plainHttp2: PlainHandler<Http2Exchange> = ({ path }) => {
    const [, name = "", count] = path.split("/");
    if (!["echo", "trailers", "bytes", "later", "fall"].includes(name)) return undefined;
    return {
      bodyBytesMax: BODY_BYTES_MAX,
      answer(bytes, exchange) {
        const body = bytes.toString("latin1");
        if (name === "later") later.push({ exchange, body });
        else if (name === "fall") exchange.fallThrough();
        else {
          answered.push(`plain ${body}`);
          replyTo(exchange, {
            body: count === undefined ? `plain ${body}` : bytesOf(Number(count)),
            ...(name === "trailers" ? { trailers: encodeField("x-trailer", "1") } : {}),
          });
        }
      },
      cutOff: () => cutOff.push(path),
    };
  };
  const handle = (request: HttpRequest, response: HttpResponse) => {
    if (request.url === "/hold") {
      held.push({ request, response });
      return;
    }
    if (request.url === "/mistake") throw new Error("a mistake of the test");
    let body = "";
    request.setEncoding("latin1");
    request.on("data", (text: string) => {
      body += text;
    });
    request.once("end", () => {
      const text = `node ${request.method} ${body}`;
      answered.push(text);
      response.writeHead(200, { "content-length": text.length });
      if (request.method === "HEAD") response.end();
      else response.end(Buffer.from(text, "latin1"));
    });
  };
  const server = await openHttpServer({
    address: { kind: "tcp", host: "127.0.0.1", port: 0 },
    limits: { ...DEFAULT_LIMITS, ...limits },
    drainTimeoutMs: 5_000,
    clock,
    handle: Object.assign(handle, { plainHttp2 }),
    onDrop: (reason) => drops.push(reason),
    onInternalError: (error) => internalErrors.push(error),
  });
  const port = server.address.kind === "tcp" ? server.address.port : 0;
  return {
    ...{ server, port, drops, answered, later, held, cutOff },
    takeInternalErrors: () => internalErrors.splice(0),
    async connect(first = SETTINGS) {
      const client = new FrameClient(await openRaw(port));
      clients.push(client);
      client.say(PREFACE + first);
      return client;
    },
    async openSession(settings) {
      const session = await openHttp2(port, settings);
      sessions.push(session);
      return session;
    },
    async [Symbol.asyncDispose]() {
      for (const { raw } of clients) raw.socket.destroy();
      for (const session of sessions) session.destroy();
      await eventually(() => server.connectionCount === 0, { what: "all connections are gone" });
      await server[Symbol.asyncDispose]();
      if (internalErrors.length > 0)
        throw new AggregateError(internalErrors, "internal errors of the server");
    },
  };
}

/** Bytes of which one does not look like the next. */
export function bytesOf(count: number): string {
  return "0123456789abcdefghijklmnopqrstuvwxyz".repeat(Math.ceil(count / 36)).slice(0, count);
}

export function replyTo(
  exchange: Http2Exchange,
  { body, trailers }: { readonly body: string; readonly trailers?: string },
): void {
  const head = encodeField(":status", "200") + encodeField("content-length", String(body.length));
  exchange.reply(head, body, trailers);
}

/** What has come on one stream so far. */
export interface StreamAnswer {
  /** The last one is the answer's, those before it are interim. */
  readonly statuses: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly trailers: Readonly<Record<string, string>> | undefined;
  readonly isWhole: boolean;
  readonly reset: ErrorName | undefined;
}

export interface GoAway {
  readonly lastStream: number;
  readonly error: ErrorName;
}

/** A connection on which a test says frames, and sees those that come back. */
export class FrameClient {
  readonly raw: RawConnection;
  #pings = 0;

  constructor(raw: RawConnection) {
    this.raw = raw;
  }

  get closed(): Promise<void> {
    return this.raw.closed;
  }

  say(...frames: readonly string[]): void {
    this.raw.socket.write(frames.join(""), "latin1");
  }

  /** Resolves when the server has taken in all that was said, and what it replied at once is here. */
  async isHeard(): Promise<void> {
    this.#pings += 1;
    const payload = `ping${String(this.#pings).padStart(4, "0")}`;
    this.say(frame("PING", { payload }));
    const pong = frame("PING", { flags: ACK, payload });
    await eventually(() => this.raw.received().includes(pong), { what: "the answer to a PING" });
  }

  frames(): readonly ReadFrame[] {
    return readFrames(this.raw.received());
  }

  goAways(): readonly GoAway[] {
    return this.frames()
      .filter(({ type }) => type === "GOAWAY")
      .map(({ payload }) => ({
        lastStream: Buffer.from(payload, "latin1").readUInt32BE(0),
        error: errorAt(payload, 4),
      }));
  }

  answerOn(stream: number): StreamAnswer {
    return readAnswer(this.frames().filter((each) => each.stream === stream));
  }

  /** Resolves with the answer when it is whole, or the stream was reset. */
  async wholeAnswerOn(stream: number): Promise<StreamAnswer> {
    let answer = this.answerOn(stream);
    await eventually(
      () => {
        answer = this.answerOn(stream);
        return answer.isWhole || answer.reset !== undefined;
      },
      { what: `an answer on stream ${stream}` },
    );
    return answer;
  }
}

function readAnswer(frames: readonly ReadFrame[]): StreamAnswer {
  const decoder = new HpackDecoder({ bytesMax: 1_000_000, fieldsMax: 1_000 });
  const statuses: string[] = [];
  let [headers, trailers]: (Record<string, string> | undefined)[] = [];
  let [headerBlock, body] = ["", ""];
  let [isWhole, reset]: [boolean, ErrorName?] = [false];
  for (const { type, flags, payload } of frames) {
    if (type === "DATA") body += payload;
    if (type === "RST_STREAM") reset = errorAt(payload, 0);
    if (type === "HEADERS" || type === "CONTINUATION") {
      headerBlock += payload;
      if ((flags & END_HEADERS) !== 0) {
        const fields = decoder.decode(Buffer.from(headerBlock, "latin1")) ?? [];
        headerBlock = "";
        const read: Record<string, string> = {};
        for (let i = 0; i < fields.length; i += 2) read[fields[i] ?? ""] = fields[i + 1] ?? "";
        const { ":status": status, ...rest } = read;
        if (status === undefined) trailers = rest;
        else {
          statuses.push(status);
          headers = rest;
        }
      }
    }
    if ((type === "DATA" || type === "HEADERS") && (flags & END_STREAM) !== 0) isWhole = true;
  }
  return { statuses, headers: headers ?? {}, body, trailers, isWhole, reset };
}

export interface RequestParts {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Unset: there is none, and the request is at its end. */
  readonly body?: string;
  /** Unset: it does. */
  readonly ends?: boolean;
}

/** The header block of a request, as literals. */
export function requestBlock({ method = "POST", path = "/echo", headers = {} }: RequestParts = {}): string {
  return block(
    [":method", method],
    [":scheme", "http"],
    [":authority", "a"],
    [":path", path],
    ...Object.entries(headers),
  );
}

/** A HEADERS frame, and a DATA frame for a body. */
export function request(stream: number, parts: RequestParts = {}): string {
  const { body, ends = true } = parts;
  const end = ends ? END_STREAM : 0;
  const flags = END_HEADERS | (body === undefined ? end : 0);
  const head = frame("HEADERS", { stream, flags, payload: requestBlock(parts) });
  return body === undefined ? head : head + data(stream, body, { ends });
}

/** DATA, in as many frames as it takes. */
export function data(
  stream: number,
  body: string,
  { ends = false }: { readonly ends?: boolean } = {},
): string {
  const pieces = body.match(/[^]{1,16384}/g) ?? [""];
  return pieces
    .map((payload, i) =>
      frame("DATA", { stream, payload, flags: ends && i === pieces.length - 1 ? END_STREAM : 0 }),
    )
    .join("");
}

/** Opens scenes that are closed at the end of their test. To be called once, beside the tests. */
export function http2Scenes(): (options?: SceneOptions) => Promise<Http2Scene> {
  const opened: Http2Scene[] = [];
  afterEach(async () => {
    for (const scene of opened.splice(0)) await scene[Symbol.asyncDispose]();
  });
  return async (options = {}) => {
    const scene = await openHttp2Scene(options);
    opened.push(scene);
    return scene;
  };
}
