import { readFile, rename, rm, unlink, writeFile } from "node:fs/promises";
import {
  identifyPlace,
  identifyProcess,
  isProcessIdentity,
  type ProcessIdentity,
} from "../../system/process-identity.ts";

/** What a pid file says: whose plug-in runs, and who is to end it. */
export interface PidFile {
  /** See `identifyPlace`. */
  readonly place: string;
  /** The daemon that started it. */
  readonly owner: ProcessIdentity;
  readonly plugin: ProcessIdentity;
}

/** Where the two files of one plug-in are. Both have the same name but for their ends. */
export interface PluginFiles {
  readonly socket: string;
  readonly pid: string;
}

/** `name` may be anything; `suffix` makes it the only one. */
export function pluginFiles(folder: string, name: string, suffix: string): PluginFiles {
  const stem = `${folder}/${name.replaceAll(/[^\w-]/g, "_").slice(0, NAME_CHARS_MAX)}-${suffix}`;
  return { socket: `${stem}.sock`, pid: `${stem}${PID_FILE_END}` };
}

/** Socket paths are short; this is enough to tell which upstream it is. */
const NAME_CHARS_MAX = 24;

export const PID_FILE_END = ".pid";

/** Undefined: it is no pid file, or is gone. */
export async function loadPidFile(path: string): Promise<PidFile | undefined> {
  try {
    const file: unknown = JSON.parse(await readFile(path, "utf8"));
    return isPidFile(file) ? file : undefined;
  } catch {
    return undefined;
  }
}

function isPidFile(value: unknown): value is PidFile {
  if (typeof value !== "object" || value === null) return false;
  const { place, owner, plugin } = value as Partial<Record<keyof PidFile, unknown>>;
  return typeof place === "string" && isProcessIdentity(owner) && isProcessIdentity(plugin);
}

/** Notes that `plugin` was started by `owner`. Does nothing if either has ended meanwhile. */
export async function writePidFile(path: string, ownerPid: number, pluginPid: number): Promise<void> {
  const [place, owner, plugin] = await Promise.all([
    identifyPlace(),
    identifyProcess(ownerPid),
    identifyProcess(pluginPid),
  ]);
  if (owner === undefined || plugin === undefined) return;
  const file: PidFile = { place, owner, plugin };
  const unfinished = `${path}.unfinished`;
  await writeFile(unfinished, `${JSON.stringify(file)}\n`, { mode: 0o600 });
  await rename(unfinished, path);
}

/** Whether it was there: of two who remove it, one is told so. */
export async function removePidFile(path: string): Promise<boolean> {
  await rm(`${path}.unfinished`, { force: true });
  return unlink(path).then(
    () => true,
    () => false,
  );
}
