import { Alarm } from "../../system/alarm.ts";
import type { Clock } from "../../system/clock.ts";
import { writeKeptFile } from "../../system/kept-file.ts";
import { encodeSnapshot } from "./encode-snapshot.ts";
import { snapshotPath } from "./load-snapshot.ts";
import type { SnapshotContent } from "./snapshot-content.ts";
import { openSnapshotLock } from "./snapshot-lock.ts";

export interface SnapshotWriterOptions {
  /** Created if it is missing. */
  readonly folder: string;
  /** What is known now; undefined while that is nothing. */
  readonly read: () => SnapshotContent | undefined;
  readonly clock: Pick<Clock, "now" | "sleep">;
  /** From a change to the writing, so that one writing serves many. Unset: 1 s. */
  readonly debounceMs?: number;
  /** The same where what is known has only become younger, or more of it is remembered. Unset: 1 min. */
  readonly refreshMs?: number;
  /**
   * From a look at a folder that another daemon has to the next, so that it is taken over soon after that one has ended.
   * Unset: 10 s.
   */
  readonly takenMs?: number;
  readonly onWritten: (written: { readonly bytes: number; readonly durationMs: number }) => void;
  /**
   * A snapshot could not be written, for the reason told. It is tried again at the next change, or within `refreshMs`.
   * That the folder is another daemon's is told once.
   */
  readonly onProblem: (problem: string) => void;
}

/** Keeps what is known on disk, to bridge a restart. Disposing of it writes it a last time. */
export interface SnapshotWriter extends AsyncDisposable {
  /** Why nothing could be written at the last try, in a sentence. Undefined: it could, or there was nothing to write. */
  readonly problem: string | undefined;
  /** Something is known that was not: it is written soon, in the background. */
  changed(): void;
  /** The same as before is known, but younger, or of more entities: it is written at leisure. */
  refreshed(): void;
}

const DEBOUNCE_MS = 1_000;
const REFRESH_MS = 60_000;
const TAKEN_MS = 10_000;
/** From one writing to the next, as a multiple of what it took: however much there is, it takes a share of the time. */
const REST_FACTOR = 20;
/** A disk that takes longer has failed. */
const CLOSE_MAX_MS = 2_000;

export function openSnapshotWriter(options: SnapshotWriterOptions): SnapshotWriter {
  const {
    folder,
    clock,
    debounceMs = DEBOUNCE_MS,
    refreshMs = REFRESH_MS,
    takenMs = TAKEN_MS,
    onProblem,
  } = options;
  const stop = new AbortController();
  const alarm = new Alarm(clock);
  const lock = openSnapshotLock(folder);
  let dueAt = Infinity;
  let restsUntil = -Infinity;
  let problem: string | undefined;

  /** Whether this daemon is the one that may write. */
  async function mayWrite(): Promise<boolean> {
    const hold = await lock.hold();
    if (hold.kind === "taken") isTakenBy(hold.holder);
    return hold.kind === "held";
  }

  function isTakenBy(holder: string): void {
    const known = problem;
    problem = `Cannot keep a snapshot in ${folder}: it must be of one daemon only, got ${holder}; this one keeps none`;
    if (problem !== known) onProblem(problem);
    isDueIn(takenMs);
  }

  function hasFailed(error: unknown): void {
    const got = error instanceof Error ? error.message : String(error);
    problem = `Cannot keep a snapshot in ${folder}: it must be writable, got ${got}`;
    onProblem(problem);
    isDueIn(refreshMs);
  }

  async function write(): Promise<void> {
    const startedAt = clock.now();
    try {
      if (!(await mayWrite())) return;
      const content = options.read();
      if (content !== undefined) {
        const bytes = await writeKeptFile(snapshotPath(folder), encodeSnapshot(content));
        options.onWritten({ bytes, durationMs: clock.now() - startedAt });
      }
      problem = undefined;
    } catch (error) {
      hasFailed(error);
    } finally {
      restsUntil = clock.now() + REST_FACTOR * (clock.now() - startedAt);
    }
  }

  async function run(): Promise<void> {
    // Whoever starts a second daemon, or gave it a folder of no use, is to know at once.
    await mayWrite().catch(hasFailed);
    while (!stop.signal.aborted) {
      const waitMs = Math.max(dueAt, restsUntil) - clock.now();
      if (waitMs > 0) {
        await alarm.wait(waitMs, stop.signal);
        continue;
      }
      dueAt = Infinity;
      await write();
    }
    await write();
    await lock[Symbol.asyncDispose]();
  }

  function isDueIn(ms: number): void {
    const at = clock.now() + ms;
    if (at >= dueAt) return;
    dueAt = at;
    alarm.ring();
  }

  const running = run();
  return {
    get problem() {
      return problem;
    },
    changed: () => isDueIn(debounceMs),
    refreshed: () => isDueIn(refreshMs),
    async [Symbol.asyncDispose]() {
      stop.abort();
      const end = new AbortController();
      await Promise.race([running, clock.sleep(CLOSE_MAX_MS, end.signal).catch(() => {})]);
      end.abort();
    },
  };
}
