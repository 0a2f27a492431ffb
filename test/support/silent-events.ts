import type { NamespaceEvents } from "../../src/namespaces/namespace.ts";

/** For a namespace whose events a test does not look at, or only at some of them. */
export const silentEvents: NamespaceEvents = {
  onEvaluation: () => {},
  onLookUp: () => {},
  onStoreCall: () => {},
  onStoreRecovery: () => {},
  onBreakerChange: () => {},
  onKillSet: () => {},
  onEpochChange: () => {},
  onInvalidValue: () => {},
  onPropagation: () => {},
};
