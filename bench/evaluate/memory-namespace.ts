import { type Namespace, openNamespace } from "../../src/namespaces/namespace.ts";
import { reportEvents } from "../../src/namespaces/report-events.ts";
import { type Clock, systemClock } from "../../src/system/clock.ts";
import { Latest } from "../../src/system/latest.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { tableOf } from "../../test/support/flag-builders.ts";
import { MemoryStore } from "../../test/support/memory-store.ts";
import { defineAll, entityIdsOf, flagIdsOf, OUTCOMES, type Outcome } from "./outcomes.ts";

const TTL_MS = 3_600_000;

/** What answers, and has to be disposed of. */
export interface MemoryNamespace extends Pick<Namespace, "evaluate" | "evaluateMany">, AsyncDisposable {
  /** The store tells something of a flag that nobody else asks for. */
  learn(): Promise<void>;
}

/** A namespace as the daemon has it, metrics included, over a store in memory; it knows all that is asked for. */
export async function openMemoryNamespace({
  isPastTtl,
}: Pick<Outcome, "isPastTtl">): Promise<MemoryNamespace> {
  const store = new MemoryStore();
  for (const [name, outcome] of OUTCOMES) for (const flagId of flagIdsOf(name)) outcome.fill(store, flagId);
  const clock = new ShiftedClock();
  const logger = createLogger({ level: "error", format: "json", destination: 2, clock });
  const metrics = createMetrics({ version: "bench", procedures: [] });
  const namespace = openNamespace({
    flags: new Latest(tableOf(...defineAll())),
    store,
    clock,
    random: () => 0.5,
    killTtlMs: TTL_MS,
    flagTtlMs: TTL_MS,
    overrideTtlMs: TTL_MS,
    negativeTtlMs: TTL_MS,
    overrideEntriesMax: 10_000,
    jitter: 0,
    events: reportEvents({ metrics, logger, backend: "db" }),
    traceStoreCall: (_, run) => run(),
  });
  await namespace.whenReady(AbortSignal.timeout(10_000));
  await namespace.overrideRows([...OUTCOMES.values()].flatMap(entityIdsOf).filter((id) => id !== ""));
  let openGate = () => {};
  if (isPastTtl) {
    store.gate = new Promise((resolve) => {
      openGate = resolve;
    });
    clock.shiftMs = 1.5 * TTL_MS;
  }
  let learnt = 0;
  return {
    async learn() {
      await namespace.flagState(`made-up/${++learnt}`);
    },
    evaluate: (flagId, entityId) => namespace.evaluate(flagId, entityId),
    evaluateMany: (flagIds, entityId, memory) => namespace.evaluateMany(flagIds, entityId, memory),
    async [Symbol.asyncDispose]() {
      openGate();
      await namespace[Symbol.asyncDispose]();
      metrics[Symbol.dispose]();
    },
  };
}

/** The system's clock, as costly to read, put forward. */
class ShiftedClock implements Clock {
  shiftMs = 0;

  now(): number {
    return systemClock.now() + this.shiftMs;
  }

  wallNow(): number {
    return systemClock.wallNow() + this.shiftMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal);
  }

  after(ms: number, callback: () => void): () => void {
    return systemClock.after(ms, callback);
  }
}
