import { randomBytes } from "node:crypto";
import { readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createFolder } from "../../system/create-folder.ts";
import { removeUnfinished } from "../../system/kept-file.ts";
import {
  identifyPlace,
  identifySelf,
  isProcessIdentity,
  isRunning,
  type ProcessIdentity,
} from "../../system/process-identity.ts";

/** Who keeps snapshots in a folder, as its lock file says. */
interface Holder {
  /** See `identifyPlace`. */
  readonly place: string;
  /** Undefined where the system does not tell. */
  readonly owner: ProcessIdentity | undefined;
  /** Another one for each lock that is opened. */
  readonly token: string;
}

/** What came of trying to hold a lock. */
export type Hold =
  | { readonly kind: "held" }
  /** `holder` says in a few words who has it. */
  | { readonly kind: "taken"; readonly holder: string };

/** Sees to it that one daemon only writes snapshots into a folder. */
export interface SnapshotLock extends AsyncDisposable {
  /**
   * To be called before each write. Of several who try at the same moment more than one may be told that they hold it;
   * from the next call on it is one. Rejects if the file system says no.
   */
  hold(): Promise<Hold>;
}

const NAME = "snapshot.lock";

/**
 * Disposing of it lets go of the lock. A holder that has ended need not have done so: what it left is taken over, and so
 * is what was left by another container or before the machine started, where nothing can be told of its process.
 */
export function openSnapshotLock(folder: string): SnapshotLock {
  const path = join(folder, NAME);
  const token = randomBytes(6).toString("hex");
  let hasHeld = false;

  return {
    async hold() {
      const found = await readHolder(path);
      if (found?.token === token) return { kind: "held" };
      const place = await identifyPlace();
      if (found !== undefined && !(await isGone(found, place, hasHeld)))
        return { kind: "taken", holder: describe(found) };
      await createFolder(folder, 0o700);
      await removeUnfinished(path);
      await replace(path, { place, owner: await identifySelf(), token });
      hasHeld = true;
      return { kind: "held" };
    },
    async [Symbol.asyncDispose]() {
      const found = await readHolder(path).catch(() => undefined);
      if (found?.token === token) await rm(path, { force: true }).catch(() => {});
    },
  };
}

/** In a few words, who keeps snapshots in a folder and certainly runs. Never rejects. */
export async function findHolder(folder: string): Promise<string | undefined> {
  const found = await readHolder(join(folder, NAME)).catch(() => undefined);
  if (found === undefined || (await isGone(found, await identifyPlace(), false))) return undefined;
  return describe(found);
}

/** Whoever took over from us, from wherever, came later, and runs. */
async function isGone({ place, owner }: Holder, here: string, tookOver: boolean): Promise<boolean> {
  if (place !== here) return !tookOver;
  return owner === undefined || !(await isRunning(owner));
}

function describe({ owner }: Holder): string {
  return owner === undefined ? "another daemon" : `another daemon, process ${owner.pid}`;
}

/** Undefined: there is none, or what is there says nothing. */
async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    // Reading a pipe or a device might never end.
    if (!(await stat(path)).isFile()) return undefined;
    const holder: unknown = JSON.parse(await readFile(path, "utf8"));
    return isHolder(holder) ? holder : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || isMissing(error)) return undefined;
    throw error;
  }
}

function isHolder(value: unknown): value is Holder {
  if (typeof value !== "object" || value === null) return false;
  const { place, owner, token } = value as Partial<Record<keyof Holder, unknown>>;
  return (
    typeof place === "string" &&
    typeof token === "string" &&
    (owner === undefined || isProcessIdentity(owner))
  );
}

async function replace(path: string, holder: Holder): Promise<void> {
  const unfinished = `${path}.unfinished-${holder.token}`;
  try {
    await writeFile(unfinished, `${JSON.stringify(holder)}\n`, { mode: 0o600 });
    await rename(unfinished, path);
  } catch (error) {
    await rm(unfinished, { force: true }).catch(() => {});
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
