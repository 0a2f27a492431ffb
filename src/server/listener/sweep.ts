import type { Clock } from "../../system/clock.ts";
import type { Connection } from "./connection.ts";

export interface SweepOptions {
  readonly connections: ReadonlySet<Connection>;
  readonly clock: Clock;
  readonly headerTimeoutMs: number;
  /** Without anything taken of what was asked for. */
  readonly idleTimeoutMs: number;
  readonly onDrop: (reason: CutReason) => void;
}

type CutReason = "no_request" | "half_open" | "stalled";

/**
 * A loop that cuts connections which open and then ask for nothing, and those of HTTP/2 which hang inside a frame or do not
 * take their answers.
 */
export interface Sweep {
  /** How often it looks. */
  readonly intervalMs: number;
  /** Runs until `signal` aborts. Never rejects. */
  run(signal: AbortSignal): Promise<void>;
}

/** So much later than it meant to, it is late. */
const HELD_UP_INTERVALS = 3;

export function createSweep(options: SweepOptions): Sweep {
  const { connections, clock, headerTimeoutMs, idleTimeoutMs, onDrop } = options;
  const intervalMs = Math.max(10, Math.min(1_000, headerTimeoutMs / 20));

  function reasonToCut(connection: Connection, now: number): CutReason | undefined {
    const { speaks, openedAt, used } = connection;
    const ageMs = now - openedAt;
    if (speaks.kind === "http2") {
      if (speaks.http2.isHalfOpen(now, headerTimeoutMs)) return "half_open";
      return speaks.http2.isStalled(now, idleTimeoutMs) ? "stalled" : undefined;
    }
    // Node's own limit says 408, and is let go first. But it counts from the first byte that it gets, which may have come late.
    const patienceMs = speaks.kind === "http1" ? headerTimeoutMs + 2 * intervalMs : headerTimeoutMs;
    return !used && ageMs >= patienceMs ? "no_request" : undefined;
  }

  return {
    intervalMs,
    async run(signal) {
      let lookedAt = clock.now();
      let hadPatience = false;
      while (!signal.aborted) {
        const now = clock.now();
        // After a pause of our own, what looks silent may have said what nobody has read yet. Never twice: some go on pausing us.
        hadPatience = !hadPatience && now - lookedAt > HELD_UP_INTERVALS * intervalMs;
        lookedAt = now;
        for (const connection of connections) {
          const reason = reasonToCut(connection, now);
          if (reason === undefined || hadPatience || connection.socket.destroyed) continue;
          onDrop(reason);
          connection.socket.destroy();
        }
        await clock.sleep(intervalMs, signal).catch(() => {});
      }
    },
  };
}
