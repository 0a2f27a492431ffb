import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Binaries, programPath } from "./binaries.ts";
import { type ClusterPaths, clusterPaths } from "./data-folder.ts";
import { EmbeddedPostgresError, errorCode } from "./embedded-error.ts";
import { type Account, runProgram } from "./programs.ts";
import { unfinished } from "./system-folder.ts";

/** The superuser, who owns everything in an embedded database. */
export const USER = "pbflagd";

/** The major version that wrote the data; undefined if there is no data yet. */
export async function readDataMajor(paths: ClusterPaths): Promise<number | undefined> {
  try {
    return Number.parseInt(await readFile(join(paths.cluster, "PG_VERSION"), "utf8"), 10);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

export interface InitializeOptions {
  readonly binaries: Binaries;
  readonly account: Account | undefined;
  /** Leave it to the operating system when data reaches the disk. For tests. */
  readonly noSync: boolean;
}

/**
 * Makes a cluster at `paths`, whole or not at all: it is built beside its place and then renamed, so that
 * being killed in the middle leaves nothing that looks like data.
 */
export async function initializeCluster(paths: ClusterPaths, options: InitializeOptions): Promise<void> {
  const draft = clusterPaths(unfinished(paths.root));
  try {
    await prepareDraft(draft, options.account);
    await runInitdb(draft, options);
    if (!options.noSync) await syncFolder(draft.root);
    await rename(draft.root, paths.root);
    if (!options.noSync) await syncFolder(dirname(paths.root));
  } catch (error) {
    await rm(draft.root, { recursive: true, force: true });
    // Another process was faster; what it made is as good.
    if (errorCode(error) !== "ENOTEMPTY" && errorCode(error) !== "EEXIST") throw error;
  }
}

async function prepareDraft(draft: ClusterPaths, account: Account | undefined): Promise<void> {
  await mkdir(draft.root);
  await chmod(draft.root, account === undefined ? 0o700 : 0o711);
  await mkdir(draft.cluster, { mode: 0o700 });
  await writeFile(draft.password, randomBytes(18).toString("base64url"), { mode: 0o600 });
  // initdb reads the password, and whoever may read the cluster needs none.
  for (const path of [draft.cluster, draft.password]) {
    if (account !== undefined) await chown(path, account.uid, account.gid);
  }
}

async function runInitdb(draft: ClusterPaths, options: InitializeOptions): Promise<void> {
  const { binaries, account, noSync } = options;
  const args = [
    ...["--pgdata", draft.cluster, "--username", USER, "--pwfile", draft.password],
    ...["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-instructions"],
    ...(noSync ? ["--no-sync"] : []),
  ];
  const { exitCode, output } = await runProgram(programPath(binaries, "initdb"), args, {
    account,
    cwd: draft.root,
  });
  if (exitCode === 0) return;
  const lines = output.split("\n").filter((line) => line.trim() !== "");
  const said = lines.findLast((line) => /error|fatal/i.test(line)) ?? lines.at(-1) ?? `exit code ${exitCode}`;
  throw new EmbeddedPostgresError(`Cannot create the embedded database in ${dirname(draft.root)}: ${said}`);
}

/** A rename is on disk only when the folder that holds the name is. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
