import { stat } from "node:fs/promises";
import { Alarm } from "./alarm.ts";
import type { Clock } from "./clock.ts";
import { directoriesBehind } from "./directories-behind.ts";
import { filePrint } from "./file-print.ts";
import { type WatchDirectories, watchDirectories } from "./watch-directories.ts";

export interface FileWatchOptions {
  /** A file, or a directory whose files count. */
  readonly path: string;
  readonly clock: Clock;
  /** How often to look where the operating system says nothing. */
  readonly pollMs: number;
  /** A file counts as changed once it has stood still for this long: 100 ms unless set. */
  readonly settleMs?: number;
  /** What it begins after. Unset: nothing. */
  readonly startsAfter?: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** Called when the watch begins and after every change; never twice at a time. */
  readonly onChange: () => Promise<void> | void;
  /** The operating system cannot watch; polling goes on. */
  readonly onWatchError?: (error: unknown) => void;
  readonly watchDirectories?: WatchDirectories;
}

/** A file that never stands still is looked at all the same. */
const settleRoundsMax = 50;

/**
 * Notices every change of the file at a path: written in place, replaced by rename, deleted and made anew, or swapped
 * behind a symbolic link. What the operating system reports is only a hint to look; a poll finds what it missed.
 */
export function watchFile(options: FileWatchOptions): AsyncDisposable {
  const stop = new AbortController();
  const done = follow(options, stop.signal);
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await done;
    },
  };
}

async function follow(options: FileWatchOptions, signal: AbortSignal): Promise<void> {
  const { path, clock, pollMs, onChange } = options;
  const alarm = new Alarm(clock);
  await options.startsAfter?.(signal);
  await using lookout = new Lookout(options, () => alarm.ring());
  let seen: string | undefined;
  while (!signal.aborted) {
    await lookout.cover(path);
    const print = await settledPrint(options, seen, signal);
    if (print === seen) await alarm.wait(pollMs, signal);
    else if (!signal.aborted) await onChange();
    seen = print;
  }
}

/** How the file looks, once it looks the same twice. At once if it looks as before, or is looked at for the first time. */
async function settledPrint(
  { path, clock, settleMs = 100 }: FileWatchOptions,
  seen: string | undefined,
  signal: AbortSignal,
): Promise<string> {
  let print = await filePrint(path);
  if (seen === undefined || print === seen) return print;
  for (let i = 0; i < settleRoundsMax && !signal.aborted; i++) {
    await clock.sleep(settleMs, signal).catch(() => {});
    const again = await filePrint(path);
    if (again === print) break;
    print = again;
  }
  return print;
}

/** Watches the directories behind a path, and others once there are others. */
class Lookout implements AsyncDisposable {
  readonly #options: FileWatchOptions;
  readonly #onEvent: () => void;
  #covered = "";
  #watch: AsyncDisposable | undefined;

  constructor(options: FileWatchOptions, onEvent: () => void) {
    this.#options = options;
    this.#onEvent = onEvent;
  }

  async cover(path: string): Promise<void> {
    const places = await directoriesBehind(path);
    const identities = await Promise.all(Array.from(places, identityOf));
    if (identities.join() === this.#covered) return;
    await this[Symbol.asyncDispose]();
    this.#covered = identities.join();
    const { watchDirectories: open = watchDirectories, onWatchError: onError = () => {} } = this.#options;
    this.#watch = open(places, { onEvent: this.#onEvent, onError });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watch?.[Symbol.asyncDispose]();
    this.#watch = undefined;
  }
}

/** A directory that was removed and made anew is another one, even if it got the old one's inode: a watch is deaf to it. */
async function identityOf([directory, names]: readonly [
  string,
  ReadonlySet<string> | undefined,
]): Promise<string> {
  const info = await stat(directory, { bigint: true }).catch(() => undefined);
  return [directory, info?.dev, info?.ino, info?.birthtimeNs, ...(names ?? [])].join(":");
}
