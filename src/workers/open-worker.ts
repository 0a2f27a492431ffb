import type { DaemonDeps } from "../daemon/deps.ts";
import { type Daemon, openDaemon } from "../daemon.ts";
import type { DependencyCheck } from "../health/dependency-health.ts";
import { forwardUpstreamService } from "../server/forwarded-upstream-service.ts";
import { Opened } from "../system/opened.ts";
import { openTransport } from "../upstream/transport/open-transport.ts";
import { withQuietInfo } from "./loggers.ts";
import { knowsAsMuch, knowsOf } from "./messages.ts";
import type { PrimaryLink } from "./primary-link.ts";
import { PRIMARY, toWorkerConfig } from "./worker-config.ts";

export type WorkerDeps = Omit<DaemonDeps, "part" | "stopping" | "configSource">;

/** Between two looks at whether the primary knows more. */
const LOOK_MS = 10;
/** A caller of `CheckUpstreams` waits for every upstream. */
const UPSTREAMS_MAX_MS = 60_000;

/**
 * Answers callers with what the primary knows. No connection is taken before this process knows as much: whoever takes
 * the place of one that was lost answers no worse.
 */
export async function openWorker(link: PrimaryLink, deps: WorkerDeps): Promise<AsyncDisposable> {
  const { config, socket, address } = await link.start;
  const { clock } = deps;
  const opened = new Opened();
  try {
    const own = toWorkerConfig(config, socket);
    const [upstream] = own.upstreams?.upstreams ?? [];
    if (upstream === undefined) throw new Error("Cannot happen: a worker has its primary for an upstream");
    const transport = opened.add(openTransport({ settings: upstream, clock }));
    const daemon = opened.add(
      await openDaemon(own, {
        ...deps,
        logger: withQuietInfo(deps.logger),
        stopping: link.stopping,
        configSource: undefined,
        part: {
          kind: "worker",
          openListener: link.openListener(address),
          health: healthOf(link, deps),
          readiness: link.readiness,
          checks: (checks) => [...(link.told?.checks ?? []), ...ofPrimary(checks)],
          metrics: () => link.scrape(),
          upstreamService: forwardUpstreamService({ to: transport, timeoutMs: UPSTREAMS_MAX_MS, clock }),
        },
      }),
    );
    link.count = () => daemon.metrics.collect();
    await learn(daemon, link, deps);
    if (!link.stopping.aborted) open(daemon, link);
    return opened;
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

/** Resolves once this process knows as much as the primary, or is to end. */
async function learn(
  { namespace }: Pick<Daemon, "namespace">,
  link: PrimaryLink,
  { clock }: Pick<WorkerDeps, "clock">,
): Promise<void> {
  while (
    !link.stopping.aborted &&
    !(link.told !== undefined && knowsAsMuch(knowsOf(namespace), link.told.knows))
  )
    await clock.sleep(LOOK_MS, link.stopping).catch(() => {});
}

function open({ namespace }: Pick<Daemon, "namespace">, link: PrimaryLink): void {
  link.open(knowsOf(namespace));
  if (namespace.ready) return;
  namespace.whenReady(link.stopping).then(
    () => link.open(knowsOf(namespace)),
    () => {},
  );
}

/** How the primary's store has been answering, as it told last. */
function healthOf(link: PrimaryLink, { clock }: Pick<WorkerDeps, "clock">) {
  return {
    get status() {
      return link.told?.health.status ?? "connecting";
    },
    get failuresInARow() {
      return link.told?.health.failuresInARow ?? 0;
    },
    get msSinceSuccess() {
      const { told } = link;
      if (told?.health.msSinceSuccess === undefined) return undefined;
      return told.health.msSinceSuccess + clock.now() - told.at;
    },
  };
}

function ofPrimary(checks: readonly DependencyCheck[]): readonly DependencyCheck[] {
  return checks
    .filter(({ name }) => name === `upstream:${PRIMARY}`)
    .map((check) => ({ ...check, name: PRIMARY }));
}
