import { setMaxListeners } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import {
  constants,
  Http2ServerRequest,
  Http2ServerResponse,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Socket } from "node:net";
import type { Clock } from "../system/clock.ts";
import { createHttpDate } from "../system/http-date.ts";
import { Connection } from "./listener/connection.ts";
import { drain } from "./listener/drain.ts";
import type { RequestHandler } from "./listener/exchange.ts";
import { headerListBytes } from "./listener/header-list.ts";
import type { ListenAddress } from "./listener/listen.ts";
import { type ConnectionLimits, createHttp1, createHttp2 } from "./listener/node-servers.ts";
import { listenOn, type OpenListener } from "./listener/open-listener.ts";
import { PlainConnection } from "./listener/plain-connection.ts";
import { createRouteFinder } from "./listener/plain-route.ts";
import { readPrelude } from "./listener/prelude.ts";
import { SessionProbe } from "./listener/session-probe.ts";
import { createSweep } from "./listener/sweep.ts";
import { TakingProbe } from "./listener/taking-probe.ts";
import { endUnreadHttp1, endUnreadHttp2 } from "./listener/unread-body.ts";

/** Why a connection was cut, or not taken. */
export type DropReason =
  | "too_many_connections"
  /** No first request in time. */
  | "no_request"
  /** An HTTP/2 session that hangs inside a frame. */
  | "half_open"
  /** Does not take what it asked for. */
  | "stalled"
  /** The system did not let us take it, for want of file descriptors for instance. */
  | "not_accepted";

export interface HttpServerOptions {
  readonly address: ListenAddress;
  /** Where connections come from, if not from `address` itself. */
  readonly openListener?: OpenListener | undefined;
  readonly limits: ConnectionLimits;
  /** How long running requests may take to finish once the server is being closed. */
  readonly drainTimeoutMs: number;
  readonly clock: Clock;
  readonly handle: RequestHandler;
  readonly onDrop: (reason: DropReason) => void;
}

/** How long the rest of a plain request is waited for before Node's server gets what there is. */
const PATIENCE_MAX_MS = 200;

/** An address that is being served. Disposing of it drains it. */
export interface HttpServer extends AsyncDisposable {
  /** With the port that was really taken. */
  readonly address: ListenAddress;
  readonly connectionCount: number;
}

/**
 * Serves HTTP/1.1 and HTTP/2 (cleartext, prior knowledge) on one address: a connection's first bytes decide.
 * Throws `ListenError` if the address cannot be had.
 */
export async function openHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { limits, clock, onDrop } = options;
  const connections = new Set<Connection>();
  const bySocket = new WeakMap<Socket, Connection>();
  /** HTTP/1 answers that are not finished. */
  const answering = new Set<ServerResponse>();
  const stop = new AbortController();
  // As many wait for it as there are connections; Node would take that for a leak.
  setMaxListeners(0, stop.signal);
  let draining = false;
  const findRoute = options.handle.plain === undefined ? undefined : createRouteFinder(options.handle.plain);
  const httpDate = createHttpDate(clock);

  const sweep = createSweep({ ...limits, connections, clock, onDrop });
  // Node's server times a request from when it gets it, and the sweep lets it go first.
  const patienceMs = Math.min(PATIENCE_MAX_MS, sweep.intervalMs / 2);
  const http1 = createHttp1(limits, sweep.intervalMs);
  const http2 = createHttp2(limits);
  http1.on("request", answerHttp1);
  http1.on("timeout", (socket: Socket) => closeUnlessWaitingForUs(socket, bySocket.get(socket)));
  http2.on("stream", answerHttp2);
  /** Makes requests and responses of streams. It has no connections of its own. */
  const requests = createHttp2(limits);
  requests.on("request", (request, response) => {
    endUnreadHttp2(request);
    if (headerListBytes(request.rawHeaders) > limits.headerBytesMax) response.writeHead(431).end();
    else options.handle(request, response);
  });

  const { openListener = listenOn({ ...options, connectionsMax: limits.connectionsMax }) } = options;
  const listener = await openListener(accept).catch((error: unknown) => {
    http1.close();
    throw error;
  });
  const sweeping = sweep.run(stop.signal);

  function accept(socket: Socket): void {
    const connection = new Connection(socket, clock.now());
    connections.add(connection);
    bySocket.set(socket, connection);
    socket.once("close", () => connections.delete(connection));
    readPrelude(socket, (version) => {
      if (version === "http1") {
        serveHttp1(connection);
      } else {
        // As Node has it for its own: HTTP/2 knows no half-closed connections.
        socket.allowHalfOpen = false;
        const watch = (session: ServerHttp2Session) => watchSession(session, connection);
        // The session is there before `emit` returns.
        http2.once("session", watch);
        http2.emit("connection", socket);
        http2.off("session", watch);
      }
    });
  }

  /** By ourselves as long as that will do. */
  function serveHttp1(connection: Connection): void {
    const { socket } = connection;
    const handOver = () => {
      connection.speaks = { kind: "http1", plain: undefined };
      http1.emit("connection", socket);
      socket.resume();
    };
    if (findRoute === undefined || draining) {
      handOver();
      return;
    }
    const onIdle = () => closeUnlessWaitingForUs(socket, connection);
    const { headerBytesMax: headBytesMax, idleTimeoutMs } = limits;
    const plain = new PlainConnection(connection, {
      findRoute,
      headBytesMax,
      patienceMs,
      idleTimeoutMs,
      onIdle,
      handOver,
      httpDate,
      clock,
    });
    connection.speaks = { kind: "http1", plain };
  }

  function answerHttp1(request: IncomingMessage, response: ServerResponse): void {
    const connection = bySocket.get(request.socket);
    connection?.requestBegan();
    answering.add(response);
    response.on("close", () => {
      answering.delete(response);
      connection?.requestEnded(clock.now());
    });
    if (draining) response.shouldKeepAlive = false;
    closeWithConnection(request, response);
    endUnreadHttp1(request, response, { clock, signal: stop.signal });
    options.handle(request, response);
  }

  function answerHttp2(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    flags: number,
    rawHeaders: string[],
  ): void {
    const handOver = (handle: RequestHandler) => {
      // Both, before anybody else listens to the stream: the order in which Node has it.
      const request = new Http2ServerRequest(stream, headers, {}, rawHeaders);
      const response = new Http2ServerResponse(stream);
      endUnreadHttp2(request);
      handle(request, response);
    };
    const isUsual = headerListBytes(rawHeaders) <= limits.headerBytesMax;
    if (isUsual && options.handle.stream?.(stream, headers, handOver) === true) return;
    requests.emit("stream", stream, headers, flags, rawHeaders);
  }

  function watchSession(session: ServerHttp2Session, connection: Connection): void {
    const { socket } = connection;
    const now = clock.now();
    const taking = new TakingProbe(socket, now);
    const probe = new SessionProbe(session, socket, now);
    connection.speaks = { kind: "http2", session, probe, taking };
    session.on("stream", (stream) => {
      connection.requestBegan();
      taking.began(stream);
      stream.once("close", () => {
        connection.requestEnded(clock.now());
        taking.ended(stream);
        if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) probe.streamWasReset();
      });
    });
    // No GOAWAY: on a connection without streams some clients do not survive one (connect-es issue 1768).
    session.setTimeout(limits.idleTimeoutMs, () => closeUnlessWaitingForUs(socket, connection));
  }

  /** After the idle timeout. A stream that has had nothing to say for that long is not the client's fault. */
  function closeUnlessWaitingForUs(socket: Socket, connection: Connection | undefined): void {
    const isTaken = socket.writableLength === 0;
    if (isTaken && connection?.busy === true) return;
    if (!isTaken) onDrop("stalled");
    socket.destroy();
  }

  async function close(): Promise<void> {
    draining = true;
    for (const { speaks } of connections) if (speaks.kind === "http1") speaks.plain?.drain();
    await listener.stop();
    for (const response of answering) if (!response.headersSent) response.shouldKeepAlive = false;
    await drain(connections, { timeoutMs: options.drainTimeoutMs, clock });
    await listener[Symbol.asyncDispose]();
    stop.abort();
    await sweeping;
    http1.close();
    http2.close();
  }

  let closing: Promise<void> | undefined;
  return {
    address: listener.address,
    get connectionCount() {
      return connections.size;
    },
    [Symbol.asyncDispose]: () => (closing ??= close()),
  };
}

/**
 * An answer that stands behind another one on its connection has no socket yet, and Node does not tell it when the
 * connection ends before its turn has come.
 */
function closeWithConnection({ socket }: IncomingMessage, response: ServerResponse): void {
  if (response.socket !== null) return;
  const close = () => response.emit("close");
  // As many wait for it as stand in line; Node would take that for a leak.
  socket.setMaxListeners(0);
  socket.once("close", close);
  // From then on Node tells.
  response.once("socket", () => socket.off("close", close));
}
