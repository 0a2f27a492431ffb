import type { Clock } from "../system/clock.ts";
import { addGone, type ProcessMetrics } from "../telemetry/add-up.ts";
import type { Logger } from "../telemetry/logger.ts";
import { restartDelayMs } from "../upstream/exec/restart-delay.ts";
import type { WorkerProcess } from "./launch-worker.ts";
import type { Knows, StartMessage, ToPrimary, ToWorker } from "./messages.ts";
import { Questions } from "./questions.ts";

export interface CrewOptions {
  readonly count: number;
  readonly launch: (worker: number) => WorkerProcess;
  /** Said to each at its start. */
  readonly start: () => Omit<StartMessage, "kind" | "worker">;
  readonly onOpen: (member: CrewMember) => void;
  readonly onMessage: (member: CrewMember, message: ToPrimary) => void;
  /** Once for each that was open. */
  readonly onGone: (member: CrewMember) => void;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: () => number;
}

/** A worker that runs. */
export interface CrewMember {
  readonly worker: number;
  readonly child: Pick<WorkerProcess, "send">;
}

interface Member extends CrewMember {
  readonly child: WorkerProcess;
  /** It takes connections. */
  isOpen: boolean;
  knowsAll: boolean;
  /** When it was last asked. */
  counted: ProcessMetrics;
}

/** From its start until it takes connections. Longer, and it never will. */
const START_MAX_MS = 60_000;
/** Whoever has worked for so long is not in the trouble any more that its forerunner may have been in. */
const STEADY_MS = 10_000;
/** For what a worker has counted. One that hangs is counted as it last was. */
const COUNT_MAX_MS = 500;

/**
 * Keeps so many workers running: one that is lost is started again, after a pause that grows while it is in vain. Once
 * all that are open know all, the daemon is ready: each is told, and nobody who knows less is open from then on.
 */
export class Crew {
  readonly #options: CrewOptions;
  readonly #members = new Set<Member>();
  readonly #stop = new AbortController();
  readonly #counts: Questions<ProcessMetrics>;
  readonly #running: Promise<unknown>;
  #gone: Promise<ProcessMetrics> = Promise.resolve([]);
  #isReady = false;

  constructor(options: CrewOptions) {
    this.#options = options;
    this.#counts = new Questions({ clock: options.clock, timeoutMs: COUNT_MAX_MS });
    const numbers = Array.from({ length: options.count }, (_, i) => i + 1);
    this.#running = Promise.all(numbers.map((worker) => this.#keepRunning(worker)));
  }

  broadcast(message: ToWorker): void {
    for (const { child } of this.#members) child.send(message);
  }

  /** What the workers have counted, and what those had that are gone. */
  async count(): Promise<{ readonly workers: readonly ProcessMetrics[]; readonly gone: ProcessMetrics }> {
    await Promise.all([...this.#members].filter(({ isOpen }) => isOpen).map((member) => this.#ask(member)));
    for (;;) {
      const adding = this.#gone;
      const gone = await adding;
      // Otherwise somebody went meanwhile, and would be missing from both.
      if (adding === this.#gone)
        return { gone, workers: Array.from(this.#members, ({ counted }) => counted) };
    }
  }

  /** Nobody is started again, and all are told to stop. */
  stop(): void {
    this.#stop.abort();
    this.broadcast({ kind: "stop" });
  }

  /** Resolves when all have ended; those that have not after so long are killed. */
  async ended(timeoutMs: number): Promise<void> {
    const cancel = this.#options.clock.after(timeoutMs, () => {
      for (const { worker, child } of this.#members) {
        this.#options.logger.warn("worker_killed", { worker, msg: "it did not end in time" });
        child.kill();
      }
    });
    await this.#running;
    cancel();
  }

  async #keepRunning(worker: number): Promise<void> {
    const { clock, random, logger } = this.#options;
    let inVain = 0;
    while (!this.#stop.signal.aborted) {
      const startedAt = clock.now();
      const exit = await this.#run(worker);
      if (this.#stop.signal.aborted) {
        logger.debug("worker_ended", { worker, ...exit });
        return;
      }
      logger.error("worker_lost", { msg: "it is started again", worker, ...exit });
      if (clock.now() - startedAt >= STEADY_MS) inVain = 0;
      await clock.sleep(restartDelayMs(inVain, random()), this.#stop.signal).catch(() => {});
      inVain += 1;
    }
  }

  /** Resolves when it has ended. */
  async #run(worker: number) {
    const { launch, start, clock, onGone } = this.#options;
    const child = launch(worker);
    const member: Member = { worker, child, isOpen: false, knowsAll: false, counted: [] };
    this.#members.add(member);
    const cancel = clock.after(START_MAX_MS, () => {
      if (!member.isOpen) child.kill();
    });
    child.receive((message) => this.#hear(member, message));
    child.send({ kind: "start", worker, ...start() });
    if (this.#isReady) child.send({ kind: "ready" });
    const exit = await child.exited;
    cancel();
    this.#members.delete(member);
    this.#gone = this.#gone.then((gone) => addGone(gone, member.counted));
    if (member.isOpen) onGone(member);
    this.#checkReady();
    return { pid: child.pid, ...exit };
  }

  #hear(member: Member, message: ToPrimary): void {
    if (message.kind === "open") this.#open(member, message.knows);
    else if (message.kind === "counted") this.#counts.answered(message.id, message.metrics);
    else this.#options.onMessage(member, message);
  }

  #open(member: Member, { all }: Knows): void {
    const { logger, onOpen } = this.#options;
    member.knowsAll = all;
    if (!member.isOpen && (all || !this.#isReady)) {
      member.isOpen = true;
      logger.info("worker_serving", { worker: member.worker, pid: member.child.pid });
      onOpen(member);
    }
    this.#checkReady();
  }

  /** Said before any connection is handed over that comes later: who has seen it ready sees it so on a new one, too. */
  #checkReady(): void {
    const open = [...this.#members].filter(({ isOpen }) => isOpen);
    if (this.#isReady || open.length === 0 || !open.every(({ knowsAll }) => knowsAll)) return;
    this.#isReady = true;
    this.broadcast({ kind: "ready" });
  }

  async #ask(member: Member): Promise<void> {
    const counted = await this.#counts.ask((id) => member.child.send({ kind: "count", id }));
    if (counted !== undefined) member.counted = counted;
  }
}
