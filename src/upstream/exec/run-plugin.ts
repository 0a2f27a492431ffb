import { rm } from "node:fs/promises";
import { pid as ownPid } from "node:process";
import type { Clock } from "../../system/clock.ts";
import { Opened } from "../../system/opened.ts";
import type { Transport } from "../transport/transport.ts";
import type { UpstreamSettings } from "../upstream-settings.ts";
import type { ExecEvent } from "./exec-event.ts";
import { type PluginFiles, removePidFile, writePidFile } from "./pid-file.ts";
import { startPlugin } from "./plugin-child.ts";
import { pluginEnvironment } from "./plugin-environment.ts";
import { openPrivateFolder } from "./private-folder.ts";
import { reapLeftovers } from "./reap-leftovers.ts";

export interface RunOptions {
  readonly settings: UpstreamSettings;
  /** An absolute path. */
  readonly program: string;
  readonly folder: string;
  readonly files: PluginFiles;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly connect: (settings: UpstreamSettings) => Transport;
  /** Ends the plug-in. */
  readonly signal: AbortSignal;
  readonly onOutput: (upstream: string, line: string) => void;
  readonly onEvent: (event: ExecEvent) => void;
  /** It takes calls from now on, … */
  readonly onServing: (transport: Transport) => void;
  /** … and does not any more, or never will: why. Its process may yet have to be ended. */
  readonly onDown: (reason: string) => void;
}

/** Runs a plug-in once, from tidying up after others to tidying up after it. Why it ended. Never rejects. */
export async function runPlugin(options: RunOptions): Promise<string> {
  const { signal, onEvent, onDown } = options;
  await using opened = new Opened();
  const end = await serve(options, opened).catch((error: unknown): End => {
    return { kind: "failed", reason: error instanceof Error ? error.message : String(error) };
  });
  if (!signal.aborted) onEvent(end);
  onDown(end.reason);
  return end.reason;
}

type End = Extract<ExecEvent, { kind: "refused" | "failed" }>;

async function serve(options: RunOptions, opened: Opened): Promise<End> {
  const { settings, connect, signal, onEvent, onServing } = options;
  const closing = whenAborted(signal, opened).then(() => failed("it is closed"));
  const plugin = await start(options, opened);
  if (plugin === undefined) return closing;
  const ended = plugin.ended.then((how) => failed(`the program ended with ${how}`));

  const first = await Promise.race([plugin.announced, ended, closing]);
  if (first.kind !== "usable") return first;
  onEvent({ kind: "announced", protocol: first.protocol, address: first.address });
  onServing(opened.add(connect({ ...settings, url: first.url })));
  return Promise.race([ended, closing]);
}

/** Undefined: it is not to run any more. */
async function start(options: RunOptions, opened: Opened) {
  const { settings, program, folder, files, env, clock, signal, onOutput, onEvent } = options;
  await openPrivateFolder(folder);
  const { stopTimeoutMs } = settings.exec;
  const onReaped = (pid: number) => onEvent({ kind: "reaped", pid });
  await reapLeftovers({ folder, stopTimeoutMs, clock, signal, onReaped });
  if (signal.aborted) return undefined;

  opened.defer(() => removeFiles(files));
  const plugin = await startPlugin({
    program,
    settings: settings.exec,
    env: pluginEnvironment(env, settings.exec.env, files.socket),
    clock,
    onOutput: (line) => onOutput(settings.name, line),
    onKilled: (pid) => onEvent({ kind: "killed", pid, afterMs: stopTimeoutMs }),
  });
  opened.add(plugin);
  onEvent({ kind: "started", pid: plugin.pid });
  await writePidFile(files.pid, ownPid, plugin.pid);
  return plugin;
}

function failed(reason: string): End {
  return { kind: "failed", reason };
}

/** What cannot be removed is left to the next start. */
async function removeFiles({ socket, pid }: PluginFiles): Promise<void> {
  await rm(socket, { force: true }).catch(() => {});
  await removePidFile(pid).catch(() => {});
}

function whenAborted(signal: AbortSignal, opened: Opened): Promise<void> {
  return new Promise((resolve) => {
    const onAbort = () => resolve();
    signal.addEventListener("abort", onAbort);
    opened.defer(() => signal.removeEventListener("abort", onAbort));
    if (signal.aborted) resolve();
  });
}
