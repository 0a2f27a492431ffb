import { randomBytes } from "node:crypto";
import { chmod, lstat, mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { EmbeddedPostgresError, errorCode, reasonOf } from "./embedded-error.ts";

/** Where root keeps what another account must reach, if our own folders are closed to it. */
export const SYSTEM_FOLDER = "/var/lib/pbflagd";

/** No copy and no initdb takes this long: what is older was left by a process that died. */
const ABANDONED_AFTER_MS = 10 * 60_000;

/** Makes sure of the folder, and that nobody but root can put anything into it. */
export async function openSystemFolder(): Promise<string> {
  try {
    await mkdir(SYSTEM_FOLDER);
    await chmod(SYSTEM_FOLDER, 0o755);
  } catch (error) {
    if (errorCode(error) !== "EEXIST") {
      throw new EmbeddedPostgresError(`Cannot create ${SYSTEM_FOLDER}: ${reasonOf(error)}`, { cause: error });
    }
  }
  const found = await lstat(SYSTEM_FOLDER);
  if (!found.isDirectory() || found.uid !== 0 || (found.mode & 0o022) !== 0) {
    throw new EmbeddedPostgresError(
      `Cannot use ${SYSTEM_FOLDER}: it must be a folder that only root can write to`,
    );
  }
  return SYSTEM_FOLDER;
}

/** The path of something unfinished that belongs beside `path`, under a name nobody else picks. */
export function unfinished(path: string): string {
  return `${path}.unfinished-${randomBytes(6).toString("hex")}`;
}

/** Removes what processes left in `folder` that died before they had finished it. */
export async function removeAbandoned(folder: string, wallNowMs: number): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!/\.unfinished-[0-9a-f]{12}$/.test(name)) continue;
    const path = join(folder, name);
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Infinity }));
    // Something may still be writing into it; then the next start removes it.
    if (wallNowMs - mtimeMs > ABANDONED_AFTER_MS)
      await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}
