import { setMaxListeners } from "node:events";
import type { Server as Http1Server, IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../system/clock.ts";
import { createHttpDate } from "../system/http-date.ts";
import { Http2Connection } from "./http2/http2-connection.ts";
import { Connection } from "./listener/connection.ts";
import { drain } from "./listener/drain.ts";
import type { RequestHandler } from "./listener/exchange.ts";
import type { ListenAddress } from "./listener/listen.ts";
import { type ConnectionLimits, createHttp1 } from "./listener/node-servers.ts";
import { listenOn, type OpenListener } from "./listener/open-listener.ts";
import { PlainConnection } from "./listener/plain-connection.ts";
import { createRouteFinder } from "./listener/plain-route.ts";
import { readPrelude } from "./listener/prelude.ts";
import { createSweep } from "./listener/sweep.ts";
import { endUnread } from "./listener/unread-body.ts";

/** Why a connection was cut, or not taken. */
export type DropReason =
  | "too_many_connections"
  /** No first request in time. */
  | "no_request"
  /** Over HTTP/2: hangs inside a frame, or has neither asked for anything nor answered a PING. */
  | "half_open"
  /** Does not take what it asked for. */
  | "stalled"
  /** Has much done and asks for nothing: pings, resets and the like. */
  | "flood"
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
  /** An exception that nobody expected. */
  readonly onInternalError: (error: unknown, where: string) => void;
}

/** How long the rest of a plain request is waited for before it goes the longer way. */
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
  /** Node's, opened for the first connection that needs it: it takes its time to load it. */
  let http1: Http1Server | undefined;

  const { openListener = listenOn({ ...options, connectionsMax: limits.connectionsMax }) } = options;
  const listener = await openListener(accept);
  const sweeping = sweep.run(stop.signal);

  function accept(socket: Socket): void {
    const connection = new Connection(socket, clock.now());
    connections.add(connection);
    bySocket.set(socket, connection);
    socket.once("close", () => connections.delete(connection));
    readPrelude(socket, (version) => {
      if (version === "http1") serveHttp1(connection);
      else connection.speaks = { kind: "http2", http2: serveHttp2(connection) };
    });
  }

  /** By ourselves as long as that will do. */
  function serveHttp1(connection: Connection): void {
    const { socket } = connection;
    const handOver = () => {
      connection.speaks = { kind: "http1", plain: undefined };
      http1 ??= openHttp1();
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

  function serveHttp2(connection: Connection): Http2Connection {
    const { handle } = options;
    return new Http2Connection(connection, {
      ...limits,
      patienceMs,
      plain: handle.plainHttp2,
      handle,
      // No GOAWAY: on a connection without streams some clients do not survive one (connect-es issue 1768).
      onIdle: () => closeUnlessWaitingForUs(connection.socket, connection),
      onFlood: () => onDrop("flood"),
      onInternalError: (error) => options.onInternalError(error, "an HTTP/2 connection"),
      httpDate,
      clock,
    });
  }

  function openHttp1(): Http1Server {
    const server = createHttp1(limits, sweep.intervalMs);
    server.on("request", answerHttp1);
    server.on("timeout", (socket: Socket) => closeUnlessWaitingForUs(socket, bySocket.get(socket)));
    return server;
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
    endUnread(request, response, { clock, signal: stop.signal });
    options.handle(request, response);
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
    http1?.close();
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
