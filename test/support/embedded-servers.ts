import { join } from "node:path";
import { isPostmaster } from "../../src/store/embedded/programs.ts";
import { listProcesses } from "./process-tree.ts";

/** Main processes of Postgres that run on the cluster of a data directory. */
export async function embeddedServersOn(dataDir: string): Promise<readonly number[]> {
  const cluster = join(dataDir, "postgres", "cluster");
  const all = await listProcesses();
  const are = await Promise.all(all.map(({ pid }) => isPostmaster(pid, cluster)));
  const found = all.filter((_, i) => are[i]);
  // A child of a server is for a moment not to be told from it.
  return found.filter(({ parent }) => !found.some(({ pid }) => pid === parent)).map(({ pid }) => pid);
}
