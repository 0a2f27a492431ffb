import { createHash, randomBytes } from "node:crypto";
import { access, chmod, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "./embedded-error.ts";
import { openSystemFolder, SYSTEM_FOLDER } from "./system-folder.ts";

/** Says in a data directory that its data lies elsewhere. Removing the directory forgets the data. */
const ELSEWHERE = "elsewhere";

/** Where the data of a data directory lies: in itself, or elsewhere. */
export async function findHome(path: string): Promise<string> {
  const id = await readFile(join(path, ELSEWHERE), "utf8").catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  });
  return id === undefined ? path : homeElsewhere(path, id.trim());
}

/** Makes sure of the place elsewhere where other accounts can reach the data of a data directory. */
export async function openHomeElsewhere(path: string): Promise<string> {
  await openSystemFolder();
  const id = randomBytes(8).toString("hex");
  await writeFile(join(path, ELSEWHERE), `${id}\n`, { flag: "wx" }).catch((error: unknown) => {
    // Already settled, or another process was faster.
    if (errorCode(error) !== "EEXIST") throw error;
  });
  const home = await findHome(path);
  await mkdir(home, { recursive: true });
  await chmod(home, 0o711);
  // Written at every start, so that its age tells when that was last.
  await writeFile(join(home, ORIGIN), `${path}\n`);
  return home;
}

/** In a home: the data directory it belongs to. */
const ORIGIN = "origin";

const FORGOTTEN_AFTER_MS = 30 * 24 * 3_600_000;

/**
 * Removes homes that were not used for a month and whose data directory is gone, so that throw-away clones
 * do not fill the disk for ever.
 */
export async function removeForgotten(wallNowMs: number): Promise<void> {
  for (const name of await readdir(await openSystemFolder())) {
    const home = join(SYSTEM_FOLDER, name);
    if (!name.startsWith("embedded-") || (await isRemembered(home, wallNowMs))) continue;
    await rm(home, { recursive: true, force: true });
  }
}

async function isRemembered(home: string, wallNowMs: number): Promise<boolean> {
  try {
    const { mtimeMs } = await stat(join(home, ORIGIN));
    if (wallNowMs - mtimeMs < FORGOTTEN_AFTER_MS) return true;
    if (await exists(join(home, "postgres", "cluster", "postmaster.pid"))) return true;
    const origin = (await readFile(join(home, ORIGIN), "utf8")).trim();
    return (await findHome(origin)) === home;
  } catch {
    // Not ours to judge.
    return true;
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Of the path as well, so that a copy of the data directory does not share the original's database. */
function homeElsewhere(path: string, id: string): string {
  const name = createHash("sha256").update(`${path}\0${id}`).digest("hex").slice(0, 16);
  return join(SYSTEM_FOLDER, `embedded-${name}`);
}
