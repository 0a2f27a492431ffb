import type { Namespace } from "../namespaces/namespace.ts";
import type { DaemonDeps } from "./deps.ts";

/** The store could not be reached, and the configuration says not to start without it. */
export class StoreRequiredError extends Error {
  override readonly name = "StoreRequiredError";
}

/** How long `require_store` waits for the store's first answers. */
const FIRST_CONTACT_MS = 10_000;

/**
 * Resolves once the store has answered all that readiness needs, or the process is asked to end. Answers that are older
 * than what an earlier run knew of this store count: it is there, and what is newer stays in force.
 *
 * @throws StoreRequiredError
 */
export async function firstContact(
  namespace: Pick<Namespace, "whenReady" | "whenHeard">,
  { clock, stopping }: Pick<DaemonDeps, "clock" | "stopping">,
): Promise<void> {
  const end = new AbortController();
  const abort = () => end.abort();
  stopping.addEventListener("abort", abort, { once: true });
  // Readiness may come from what an earlier run knew.
  const heard = Promise.all([namespace.whenReady(end.signal), namespace.whenHeard(end.signal)]).then(
    () => true,
    () => stopping.aborted,
  );
  const tooLate = clock.sleep(FIRST_CONTACT_MS, end.signal).then(
    () => false,
    () => true,
  );
  const contacted = stopping.aborted || (await Promise.race([heard, tooLate]));
  stopping.removeEventListener("abort", abort);
  end.abort();
  if (contacted) return;
  throw new StoreRequiredError(`Cannot start: the store has not answered within ${FIRST_CONTACT_MS} ms`);
}
