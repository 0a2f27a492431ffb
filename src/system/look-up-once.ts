import { lookup } from "node:dns";
import type { LookupFunction } from "node:net";

type LookupCallback = Parameters<LookupFunction>[2];

/** Look-ups under way, and who waits for them. */
const lookups = new Map<string, LookupCallback[]>();

/**
 * Looks a host up once for all who ask meanwhile. A look-up that hangs cannot be stopped and holds one of the
 * few threads that also read files; giving up on connections must not pile them up.
 */
export const lookUpOnce: LookupFunction = (hostname, options, callback) => {
  const key = JSON.stringify([hostname, options.family, options.all, options.hints]);
  const waiting = lookups.get(key);
  if (waiting !== undefined) {
    waiting.push(callback);
    return;
  }
  const callbacks = [callback];
  lookups.set(key, callbacks);
  lookup(hostname, options, (error, address, family) => {
    lookups.delete(key);
    for (const tell of callbacks) tell(error, address, family);
  });
};
