import type { Socket } from "node:net";

export type HttpVersion = "http1" | "http2";

/** What an HTTP/2 client sends first (RFC 9113, section 3.4). */
const HTTP2_PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Which version a connection speaks that begins with these bytes. Undefined: more of them are needed. */
export function versionOf(start: Buffer): HttpVersion | undefined {
  const length = Math.min(start.length, HTTP2_PREFACE.length);
  if (start.compare(HTTP2_PREFACE, 0, length, 0, length) !== 0) return "http1";
  return length === HTTP2_PREFACE.length ? "http2" : undefined;
}

/**
 * Reads as much of a new connection as it takes to know its version, puts the bytes back and leaves the socket
 * paused. Never calls back if the connection ends before.
 */
export function readPrelude(socket: Socket, onVersion: (version: HttpVersion) => void): void {
  let start: Buffer = Buffer.alloc(0);

  function read(chunk: Buffer): void {
    start = start.length === 0 ? chunk : Buffer.concat([start, chunk]);
    const version = versionOf(start);
    if (version === undefined) return;
    socket.off("data", read);
    socket.off("end", giveUp);
    socket.off("error", giveUp);
    socket.pause();
    socket.unshift(start);
    onVersion(version);
  }

  // The other side closed, or half closed, before it said what it wants.
  function giveUp(): void {
    socket.destroy();
  }

  socket.on("data", read);
  socket.on("end", giveUp);
  socket.on("error", giveUp);
}
