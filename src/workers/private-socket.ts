import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { removeStaleSocket } from "../server/listener/listen.ts";
import { openPrivateFolder } from "../upstream/exec/private-folder.ts";
import { SOCKET_PATH_BYTES_MAX } from "../upstream/transport/parse-upstream-url.ts";

export interface PrivateSocketOptions {
  readonly stateDir: string | undefined;
  /** Where `stateDir` is not set, or its path too long for a socket. */
  readonly runtimeFolder: string;
  /** Of this process. In two containers that share a folder there may be two of the same. */
  readonly pid: number;
  readonly random: () => number;
}

/**
 * Where the workers ask their primary: a path in a folder that is closed to all other users. What daemons have left
 * there that were killed is removed. Rejects if there can be no such folder.
 */
export async function choosePrivateSocket(options: PrivateSocketOptions): Promise<string> {
  const { stateDir, runtimeFolder, pid, random } = options;
  const name = `workers-${pid}-${Math.floor(random() * 1e6)}.sock`;
  const kept = stateDir === undefined ? undefined : resolve(stateDir, "workers");
  const fits = kept !== undefined && Buffer.byteLength(join(kept, name)) <= SOCKET_PATH_BYTES_MAX;
  const folder = fits ? kept : runtimeFolder;
  await openPrivateFolder(folder);
  for (const file of await readdir(folder)) {
    if (/^workers-\d+-\d+\.sock$/.test(file)) await removeStaleSocket(join(folder, file));
  }
  return join(folder, name);
}
