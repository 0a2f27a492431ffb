import type { Clock } from "../../system/clock.ts";
import type { Connection } from "./connection.ts";

/**
 * How long a connection has to be idle before it is closed under the other side's feet. Whoever has just been
 * answered may be sending the next request; it is answered too, with word that it was the last.
 */
const GRACE_MS = 200;
const LOOK_EVERY_MS = 20;
const HELD_UP_MS = 100;

/**
 * A GOAWAY frame that names the highest possible stream: "open no new ones", while those under way are still
 * answered (RFC 9113, section 6.8). Node cannot send it: after a GOAWAY of its own it ignores new streams, and a
 * request that crossed it on the way would never be answered.
 */
const SHUTDOWN_NOTICE = Buffer.from("0000080700000000007fffffff00000000", "hex");

/** Lets what runs finish, closes what is idle, and cuts what is left after `timeoutMs`. */
export async function drain(
  connections: ReadonlySet<Connection>,
  { timeoutMs, clock }: { readonly timeoutMs: number; readonly clock: Clock },
): Promise<void> {
  const startedAt = clock.now();
  for (const connection of connections) announce(connection);
  let lookedAt = startedAt;
  while (connections.size > 0) {
    const now = clock.now();
    const elapsedMs = now - startedAt;
    // After a pause of our own, what looks idle may have sent a request that nobody has read yet.
    const heldUp = now - lookedAt > HELD_UP_MS;
    lookedAt = now;
    for (const connection of connections) {
      if (elapsedMs >= timeoutMs) connection.socket.destroy();
      else if (!heldUp) closeIfIdle(connection, now, elapsedMs);
    }
    await clock.sleep(LOOK_EVERY_MS);
  }
}

function announce({ speaks, socket }: Connection): void {
  // Node hands whole frames to the socket, so that this one cannot end up inside another.
  if (speaks.kind === "http2" && !speaks.session.destroyed) socket.write(SHUTDOWN_NOTICE);
}

function closeIfIdle(connection: Connection, now: number, elapsedMs: number): void {
  const { speaks, socket } = connection;
  const idle = connection.idleMs(now) >= GRACE_MS;
  if (speaks.kind !== "http2") {
    if (idle) socket.destroySoon();
    return;
  }
  // The client has had time to read the announcement: now name the last stream. Node closes the session after it,
  // but waits for the other side to close the connection.
  if (elapsedMs >= GRACE_MS) speaks.session.close();
  if (idle && elapsedMs >= 2 * GRACE_MS) socket.destroy();
}
