import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { createFolder } from "./create-folder.ts";
import { sealBytes, sealOf, type Unsealed, unseal } from "./seal.ts";

/** What was found where a file is kept. */
export type KeptFile =
  | { readonly kind: "missing" }
  /** As it was written. */
  | ({ readonly kind: "whole" } & Unsealed)
  /** Torn, too large, or not ours. `reason` says what it must be, and what it is. */
  | { readonly kind: "unusable"; readonly reason: string };

/** Reads what `writeKeptFile` has written. Rejects if the file system says no. */
export async function readKeptFile(path: string, bytesMax: number): Promise<KeptFile> {
  try {
    return await readWhole(path, bytesMax + sealBytes);
  } catch (error) {
    if (isMissing(error)) return { kind: "missing" };
    throw error;
  }
}

async function readWhole(path: string, sealedBytesMax: number): Promise<KeptFile> {
  const info = await stat(path);
  // Reading a pipe or a device might never end.
  if (!info.isFile()) return { kind: "unusable", reason: "it must be a file, got something else" };
  if (info.size > sealedBytesMax)
    return { kind: "unusable", reason: `it must have at most ${sealedBytesMax} bytes, got ${info.size}` };
  const whole = await unseal(await readFile(path));
  if (whole !== undefined) return { kind: "whole", ...whole };
  return {
    kind: "unusable",
    reason: "it must be as it was written, got bytes that do not fit their checksum",
  };
}

/**
 * Replaces a file as a whole, sealed, and resolves with its size in bytes once it will survive a power cut. Whatever
 * happens meanwhile, the file is the old one or the new one. Chunks are asked for one by one, and others get their
 * turn in between. Of two who write the last to rename wins; each has an unfinished file of its own. Creates the folder.
 */
export async function writeKeptFile(path: string, chunks: Iterable<Uint8Array>): Promise<number> {
  const folder = dirname(path);
  await createFolder(folder, 0o700);
  const unfinished = `${path}${UNFINISHED}${randomBytes(6).toString("hex")}`;
  let bytes = 0;
  try {
    const file = await open(unfinished, "wx", 0o600);
    try {
      bytes = await writeSealed(file, chunks);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(unfinished, path);
  } catch (error) {
    await rm(unfinished, { force: true }).catch(() => {});
    throw error;
  }
  await syncFolder(folder);
  return bytes;
}

async function writeSealed(file: FileHandle, chunks: Iterable<Uint8Array>): Promise<number> {
  const hash = createHash("sha256");
  let bytes = 0;
  for (const chunk of chunks) {
    hash.update(chunk);
    // Each write goes behind what is written already.
    await file.writeFile(chunk);
    bytes += chunk.length;
  }
  const seal = sealOf(hash.digest("hex"));
  await file.writeFile(seal);
  return bytes + seal.length;
}

/** Without it, a power cut may undo the renaming. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes way for another file of this name, and says what became of the one that was there. Never rejects. */
export async function setAside(path: string): Promise<string> {
  const aside = `${path}.unusable`;
  return rename(path, aside).then(
    () => `it is ${aside} now`,
    (error: unknown) => `it could not be renamed: ${reasonOf(error)}`,
  );
}

const UNFINISHED = ".unfinished-";

/**
 * Removes what was left of a file by who died while writing it. Somebody else who is writing it just now fails. Rejects
 * if the folder cannot be read; a missing one is empty.
 */
export async function removeUnfinished(path: string): Promise<void> {
  const [folder, start] = [dirname(path), `${basename(path)}${UNFINISHED}`];
  for (const name of await listFolder(folder)) {
    const isUnfinished = name.startsWith(start) && /^[0-9a-f]{12}$/.test(name.slice(start.length));
    if (isUnfinished) await rm(join(folder, name), { force: true }).catch(() => {});
  }
}

async function listFolder(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
