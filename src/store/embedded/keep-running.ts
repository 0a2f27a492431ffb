import { openKeeper } from "./keeper.ts";
import { inspectPostmaster, stopPostmaster } from "./postmaster.ts";
import { type Server, type TakenOver, takeOver } from "./take-over.ts";

/** What the supervisor has to tell; for the log. */
export type EmbeddedEvent =
  | { readonly kind: "initialized"; readonly folder: string }
  | { readonly kind: "started" | "adopted" | "restarted"; readonly port: number }
  /** The server ended, or ended our connection. It is started again. */
  | { readonly kind: "lost" }
  | { readonly kind: "restart-failed"; readonly error: Error; readonly retryInMs: number }
  | { readonly kind: "stop-failed"; readonly error: Error }
  | { readonly kind: "stopped" };

/** Restarts in a row wait ever longer; one that held this long starts the count anew. */
const RESTART_AFTER_MS = { first: 100, most: 5_000, forgottenAfter: 30_000 } as const;

export interface KeepRunningOptions {
  readonly onEvent: (event: EmbeddedEvent) => void;
  readonly signal: AbortSignal;
}

/** Starts the server again, on the same port, whenever it is lost. When `signal` aborts, stops it. Never rejects. */
export async function keepRunning(
  server: Server,
  first: TakenOver,
  options: KeepRunningOptions,
): Promise<void> {
  const { onEvent, signal } = options;
  const { clock } = server;
  let retryInMs: number = RESTART_AFTER_MS.first;
  let taken: TakenOver | undefined = first;
  while (!signal.aborted) {
    if (taken !== undefined) {
      const since = clock.now();
      await settled(taken.keeper.lost, signal);
      if (signal.aborted) break;
      taken = undefined;
      onEvent({ kind: "lost" });
      if (clock.now() - since > RESTART_AFTER_MS.forgottenAfter) retryInMs = RESTART_AFTER_MS.first;
    }
    await clock.sleep(retryInMs, signal).catch(() => {});
    retryInMs = Math.min(2 * retryInMs, RESTART_AFTER_MS.most);
    try {
      taken = await takeOver(server, { port: first.port, signal });
      onEvent({ kind: "restarted", port: taken.port });
    } catch (error) {
      if (!signal.aborted) onEvent({ kind: "restart-failed", error: toError(error), retryInMs });
    }
  }
  await stop(server, taken).catch((error: unknown) =>
    onEvent({ kind: "stop-failed", error: toError(error) }),
  );
}

async function stop(server: Server, taken: TakenOver | undefined): Promise<void> {
  const { paths } = server;
  if (taken !== undefined) {
    await stopPostmaster(paths, taken.pid, server);
    await taken.keeper.close();
    return;
  }
  // We lost our connection, but perhaps not the server. It is ours to stop unless another took it meanwhile.
  const found = await inspectPostmaster(paths);
  if (found.kind === "absent" || found.kind === "stale") return;
  const keeper = await openKeeper({ ...server, port: found.port, connectTimeoutMs: 1_000 }).catch(
    () => undefined,
  );
  if (keeper !== undefined && "takenBy" in keeper) return;
  await stopPostmaster(paths, found.pid, server);
  await keeper?.close();
}

/** Resolves when `promise` does, or when `signal` aborts. */
function settled(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
    void promise.then(resolve);
  });
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
