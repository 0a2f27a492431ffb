import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import type { Clock } from "../../system/clock.ts";
import type { ExecSettings } from "../upstream-settings.ts";
import { type Announcement, isAnnouncement, parseAnnouncement } from "./announcement.ts";
import { LineSplitter, OutputLimiter } from "./output-lines.ts";
import { signalGroup } from "./process-group.ts";

export interface PluginProcessOptions {
  /** An absolute path. */
  readonly program: string;
  readonly settings: ExecSettings;
  /** All the variables it gets. */
  readonly env: Readonly<Record<string, string>>;
  readonly clock: Pick<Clock, "now" | "sleep">;
  /** A line it wrote on stdout or stderr. */
  readonly onOutput: (line: string) => void;
  /** It did not end when it was asked to. */
  readonly onKilled: (pid: number) => void;
}

/** A plug-in that runs. Disposing of it ends it, and waits for that. */
export interface PluginProcess extends AsyncDisposable {
  readonly pid: number;
  /** How it announced itself: refused, too, if it did not in time. Stays open if it ends before. */
  readonly announced: Promise<Announcement>;
  /** How it ended, for people, once all it wrote has been passed on. Never rejects. */
  readonly ended: Promise<string>;
}

/** What a child of the plug-in that left its process group may keep open, we leave open no longer. */
const LAST_WORDS_MS = 1_000;

/** Rejects if it cannot be started; the error shows none of its arguments and variables. */
export async function startPlugin(options: PluginProcessOptions): Promise<PluginProcess> {
  const { clock, settings, onKilled } = options;
  const child = spawnPlugin(options);
  const announced = follow(child, options);
  const ended = whenEnded(child, clock);
  const pid = await whenStarted(child);

  async function stop(): Promise<void> {
    const exited = new AbortController();
    child.once("exit", () => exited.abort());
    // Its number is not its own any more once it has exited.
    if (child.exitCode === null && child.signalCode === null) {
      const kill = () => {
        onKilled(pid);
        signalGroup(pid, "SIGKILL");
      };
      clock.sleep(settings.stopTimeoutMs, exited.signal).then(kill, () => {});
      // Its stdin stays open: that it closes means a crash of ours, and would get in the way of an orderly end.
      signalGroup(pid, "SIGTERM");
    }
    await ended;
  }

  return { pid, announced, ended, [Symbol.asyncDispose]: stop };
}

function spawnPlugin({ program, settings, env }: PluginProcessOptions): ChildProcessWithoutNullStreams {
  try {
    return spawn(program, settings.args, {
      env,
      // Its stdin is held open for as long as we live: that it closes is how a plug-in learns that we died.
      stdio: "pipe",
      // A process group of its own: the terminal's Ctrl-C is for us, who end the plug-in once nobody asks it any
      // more; and what it started itself can be ended with it.
      detached: true,
    });
  } catch (error) {
    throw cannotStart(error);
  }
}

async function whenStarted(child: ChildProcessWithoutNullStreams): Promise<number> {
  try {
    await once(child, "spawn");
  } catch (error) {
    throw cannotStart(error);
  }
  if (child.pid === undefined) throw cannotStart(undefined);
  return child.pid;
}

/** Node's own words may repeat arguments, in which there may be secrets. */
function cannotStart(error: unknown): Error {
  const code = error instanceof Error && "code" in error ? String(error.code) : "no process";
  return new Error(`it could not be started (${code})`);
}

function whenEnded(child: ChildProcessWithoutNullStreams, clock: Pick<Clock, "sleep">): Promise<string> {
  return new Promise((resolve) => {
    const closed = new AbortController();
    child.once("exit", () => {
      // What it started itself goes with it: the next start is to find nothing of it.
      if (child.pid !== undefined) signalGroup(child.pid, "SIGKILL");
      const leave = () => {
        child.stdout.destroy();
        child.stderr.destroy();
      };
      clock.sleep(LAST_WORDS_MS, closed.signal).then(leave, () => {});
    });
    child.once("close", (code, signal) => {
      closed.abort();
      resolve(signal === null ? `exit code ${code}` : `signal ${signal}`);
    });
  });
}

function follow(
  child: ChildProcessWithoutNullStreams,
  { clock, settings, onOutput }: PluginProcessOptions,
): Promise<Announcement> {
  const output = new OutputLimiter(clock, onOutput);
  child.once("close", () => output.end());
  // It may have ended, or closed it: that we notice otherwise.
  child.stdin.on("error", () => {});
  child.on("error", () => {});
  readLines(child.stderr, (line) => output.take(line));

  return new Promise((resolve) => {
    const done = new AbortController();
    child.once("close", () => done.abort());
    child.once("error", () => done.abort());
    const reason = `Cannot wait longer for its announcement: must come within ${settings.startTimeoutMs} ms, got none`;
    clock
      .sleep(settings.startTimeoutMs, done.signal)
      .then(() => resolve({ kind: "refused", reason }))
      .catch(() => {});
    readLines(child.stdout, (line) => {
      if (done.signal.aborted || !isAnnouncement(line)) return output.take(line);
      done.abort();
      resolve(parseAnnouncement(line));
    });
  });
}

function readLines(stream: Readable, onLine: (line: string) => void): void {
  const lines = new LineSplitter(onLine);
  stream.on("data", (chunk: Buffer) => lines.push(chunk));
  stream.on("end", () => lines.end());
  stream.on("error", () => {});
}
