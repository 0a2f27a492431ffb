import { collectDefaultMetrics, Registry } from "prom-client";

let registry: Registry | undefined;

/**
 * Node's own metrics: memory, processor time, garbage collection, event loop. They describe the process,
 * so there is one set of them in a process, begun when first asked for: prom-client starts an observer and
 * an event loop probe for them that cannot be stopped. Neither keeps the process alive.
 */
export function nodeMetrics(): Registry {
  if (registry === undefined) {
    registry = new Registry();
    collectDefaultMetrics({ register: registry });
  }
  return registry;
}
