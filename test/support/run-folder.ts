import { chmod, mkdtemp, readdir, readFile, realpath, rm } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { isPostmaster } from "../../src/store/embedded/programs.ts";
import { isAlive, killTree } from "./process-tree.ts";

/** As root, Postgres runs as somebody else, who must get there; a folder of root's own may be closed to him. */
const parent = userInfo().uid === 0 ? "/tmp" : tmpdir();

const PREFIX = "pbflagd-test-";

/** The folder under which one test run keeps all its databases; named for the process that removes it. */
export async function openRunFolder(): Promise<string> {
  await removeAbandoned();
  const folder = await realpath(await mkdtemp(join(parent, `${PREFIX}${process.pid}-`)));
  await chmod(folder, 0o711);
  return folder;
}

/** Ends every server that still runs on a database in `folder`, then removes everything. */
export async function removeRunFolder(folder: string): Promise<void> {
  await killServers(folder);
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
}

/** How far below a folder a cluster may lie. */
const DEPTH_MAX = 4;

/** Ends every server on a database somewhere in `folder`, without giving it time for anything. */
export async function killServers(folder: string, depth = 0): Promise<void> {
  await killServer(folder);
  if (depth === DEPTH_MAX) return;
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (entry.isDirectory()) await killServers(join(folder, entry.name), depth + 1);
  }
}

async function killServer(cluster: string): Promise<void> {
  const lockFile = await readFile(join(cluster, "postmaster.pid"), "utf8").catch(() => "");
  const pid = Number.parseInt(lockFile, 10);
  if (pid > 0 && (await isPostmaster(pid, cluster))) await killTree(pid);
}

/** A test run that was killed could not clean up. */
async function removeAbandoned(): Promise<void> {
  for (const name of await readdir(parent)) {
    const [, pid] = new RegExp(`^${PREFIX}(\\d+)-`).exec(name) ?? [];
    if (pid === undefined || (await isAlive(Number(pid)))) continue;
    // What another user left is not ours to remove.
    await removeRunFolder(join(parent, name)).catch(() => {});
  }
}
