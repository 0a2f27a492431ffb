import type { Clock } from "../../system/clock.ts";
import type { Connection } from "./connection.ts";

/**
 * How long a connection has to be idle before it is closed under the other side's feet. Whoever has just been
 * answered may be sending the next request; it is answered too, with word that it was the last.
 */
const GRACE_MS = 200;
const LOOK_EVERY_MS = 20;
const HELD_UP_MS = 100;

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

function announce({ speaks }: Connection): void {
  if (speaks.kind === "http2") speaks.http2.announceEnd();
}

function closeIfIdle(connection: Connection, now: number, elapsedMs: number): void {
  const { speaks, socket } = connection;
  const idle = connection.idleMs(now) >= GRACE_MS;
  if (speaks.kind !== "http2") {
    if (idle) socket.destroySoon();
    return;
  }
  // The client has had time to read the announcement: now name the last stream.
  if (elapsedMs >= GRACE_MS) speaks.http2.refuseNew();
  // What was answered may still be on its way to a client that takes its time.
  const isTaken = socket.writableLength === 0;
  if (idle && isTaken && elapsedMs >= 2 * GRACE_MS) socket.destroy();
}
