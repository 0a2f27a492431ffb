import type { NamespaceEvents } from "../../src/namespaces/namespace.ts";
import type { Logger } from "../../src/telemetry/logger.ts";
import type { PoolEvents } from "../../src/upstream/pool/upstream-pool.ts";

/** For a namespace whose events a test does not look at, or only at some of them. */
export const silentEvents: NamespaceEvents = {
  onEvaluation: () => {},
  onEvaluations: () => {},
  onLookUps: () => {},
  onStoreCall: () => {},
  onStoreRecovery: () => {},
  onBreakerChange: () => {},
  onKillSet: () => {},
  onEpochChange: () => {},
  onInvalidValue: () => {},
  onPropagation: () => {},
};

/** For a pool of upstreams, likewise. */
export const silentPoolEvents: PoolEvents = {
  onCall: () => {},
  onRetry: () => {},
  onRejected: () => {},
  onBreakerChange: () => {},
  onStateChange: () => {},
  onDegraded: () => {},
  onUsable: () => {},
  onDescriptorHash: () => {},
};

/** For what writes to a log that a test does not read. */
export const silentLogger: Pick<Logger, "info" | "warn"> = { info: () => {}, warn: () => {} };
