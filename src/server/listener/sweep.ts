import type { Clock } from "../../system/clock.ts";
import type { Connection } from "./connection.ts";

export interface SweepOptions {
  readonly connections: ReadonlySet<Connection>;
  readonly clock: Clock;
  readonly headerTimeoutMs: number;
  readonly onDrop: (reason: "no_request" | "half_open") => void;
}

/** A loop that cuts connections which open and then ask for nothing, or hang inside an HTTP/2 frame. */
export interface Sweep {
  /** How often it looks. */
  readonly intervalMs: number;
  /** Runs until `signal` aborts. Never rejects. */
  run(signal: AbortSignal): Promise<void>;
}

export function createSweep({ connections, clock, headerTimeoutMs, onDrop }: SweepOptions): Sweep {
  const intervalMs = Math.max(10, Math.min(1_000, headerTimeoutMs / 20));

  function reasonToCut(connection: Connection, now: number): "no_request" | "half_open" | undefined {
    const { speaks, openedAt, used } = connection;
    const ageMs = now - openedAt;
    if (speaks.kind === "http2")
      return speaks.probe.isHalfOpen(now, headerTimeoutMs) ? "half_open" : undefined;
    // Node's own limit says 408, and is let go first. But it counts from the first byte that it gets, which may have come late.
    const patienceMs = speaks.kind === "http1" ? headerTimeoutMs + 2 * intervalMs : headerTimeoutMs;
    return !used && ageMs >= patienceMs ? "no_request" : undefined;
  }

  return {
    intervalMs,
    async run(signal) {
      while (!signal.aborted) {
        const now = clock.now();
        for (const connection of connections) {
          const reason = reasonToCut(connection, now);
          if (reason === undefined || connection.socket.destroyed) continue;
          onDrop(reason);
          connection.socket.destroy();
        }
        await clock.sleep(intervalMs, signal).catch(() => {});
      }
    },
  };
}
