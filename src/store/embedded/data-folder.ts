import { access, chmod, constants, realpath, stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createFolder } from "../../system/create-folder.ts";
import { findHome, openHomeElsewhere, removeForgotten } from "./elsewhere.ts";
import { EmbeddedPostgresError, errorCode, reasonOf } from "./embedded-error.ts";
import type { Account } from "./programs.ts";

/** Postgres refuses to run as root; `nobody` exists everywhere and owns nothing else. */
const NOBODY: Account = { uid: 65_534, gid: 65_534 };

/** Where everything about one embedded database lies. */
export interface DataFolder {
  /** The data directory as it was asked for, absolute. */
  readonly dataDir: string;
  /** Where `postgres/` lies: the data directory, or a folder that the account can reach. */
  readonly home: string;
  /** Whom Postgres runs as; undefined: as ourselves. */
  readonly account: Account | undefined;
}

/** Everything there is to know about a cluster. It appears as a whole, when it is complete. */
export interface ClusterPaths {
  readonly root: string;
  /** Postgres's own data folder. */
  readonly cluster: string;
  readonly password: string;
  /** The port it last listened on. */
  readonly port: string;
  readonly log: string;
}

export function clusterPaths(root: string): ClusterPaths {
  return {
    root,
    cluster: join(root, "cluster"),
    password: join(root, "password"),
    port: join(root, "port"),
    log: join(root, "postgres.log"),
  };
}

export function pathsOf(folder: Pick<DataFolder, "home">): ClusterPaths {
  return clusterPaths(join(folder.home, "postgres"));
}

/** Creates the data directory where it is missing, and settles where the data goes and who owns it. */
export async function openDataFolder(dataDir: string, wallNowMs: number): Promise<DataFolder> {
  const asked = resolve(dataDir);
  try {
    await createFolder(asked, 0o700);
    await access(asked, constants.R_OK | constants.W_OK | constants.X_OK);
    const path = await realpath(asked);
    return ownUid() === 0 ? await openAsRoot(path, wallNowMs) : await openAsUser(path);
  } catch (error) {
    if (error instanceof EmbeddedPostgresError) throw error;
    throw new EmbeddedPostgresError(`Cannot use data directory ${asked}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/** Where the cluster of a data directory lies; undefined if there is none. Changes nothing. */
export async function findCluster(dataDir: string): Promise<ClusterPaths | undefined> {
  const path = await realpath(resolve(dataDir)).catch(() => undefined);
  if (path === undefined) return undefined;
  const paths = pathsOf({ home: await findHome(path) });
  return (await ownerOf(paths.cluster)) === undefined ? undefined : paths;
}

async function openAsUser(path: string): Promise<DataFolder> {
  const home = await findHome(path);
  const owner = await ownerOf(pathsOf({ home }).cluster);
  const uid = ownUid();
  if (owner !== undefined && uid !== undefined && owner.uid !== uid) {
    throw new EmbeddedPostgresError(
      `Cannot use data directory ${path}: its database belongs to another user (uid ${owner.uid})`,
    );
  }
  return { dataDir: path, home, account: undefined };
}

async function openAsRoot(path: string, wallNowMs: number): Promise<DataFolder> {
  const settled = await findHome(path);
  const owner = await ownerOf(pathsOf({ home: settled }).cluster);
  // A user's own database stays that user's, even if root starts it once.
  const account = owner === undefined || owner.uid === 0 ? NOBODY : owner;
  await letThrough(path);
  if (settled === path && (await canReach(path, account))) return { dataDir: path, home: path, account };
  if (settled === path && owner !== undefined) {
    throw new EmbeddedPostgresError(
      `Cannot use data directory ${path}: Postgres runs as uid ${account.uid}, which may not enter a folder above it`,
    );
  }
  await removeForgotten(wallNowMs);
  return { dataDir: path, home: await openHomeElsewhere(path), account };
}

/** Others may pass through the data directory to what is theirs, and see nothing else. */
async function letThrough(path: string): Promise<void> {
  const { mode } = await stat(path);
  if ((mode & 0o001) === 0) await chmod(path, (mode & 0o777) | 0o011);
}

/** Whether an account may enter a folder and all folders above it. */
async function canReach(path: string, account: Account): Promise<boolean> {
  for (let folder = path; ; folder = dirname(folder)) {
    const { mode, uid, gid } = await stat(folder);
    const bit = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

async function ownerOf(path: string): Promise<Account | undefined> {
  const found = await stat(path).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  });
  return found === undefined ? undefined : { uid: found.uid, gid: found.gid };
}

/** Undefined where users have no numbers, or where ours has no entry (a container's arbitrary user). */
function ownUid(): number | undefined {
  try {
    const { uid } = userInfo();
    return uid === -1 ? undefined : uid;
  } catch {
    return undefined;
  }
}
