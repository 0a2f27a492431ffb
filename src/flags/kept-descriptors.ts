import { randomBytes } from "node:crypto";
import { open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../system/clock.ts";
import { createFolder } from "../system/create-folder.ts";
import type { DescriptorSet, FlagTable } from "./definition.ts";
import { parseDescriptorSet, setBytesMax } from "./load-descriptors.ts";
import { DescriptorError } from "./parse-descriptors.ts";
import { sealBytes, sealOf, unseal } from "./sealed-set.ts";

export interface DescriptorKeepOptions {
  /** Created if it is missing. */
  readonly folder: string;
  readonly clock: Pick<Clock, "sleep">;
  /** A set could not be kept. The next one is tried all the same. */
  readonly onProblem: (problem: string) => void;
}

/** Keeps descriptor sets on disk, to bridge a restart. Disposing of it waits for what is being written. */
export interface DescriptorKeep extends AsyncDisposable {
  /** In the background: a disk that hangs holds nothing up. Only the last of several sets is sure to be written. */
  keep(set: DescriptorSet): void;
}

const NAME = "descriptors.pb";
const UNFINISHED = /^descriptors\.pb\.unfinished-[0-9a-f]{12}$/;
/** A disk that takes longer has failed. */
const CLOSE_MAX_MS = 2_000;

export function openDescriptorKeep({ folder, clock, onProblem }: DescriptorKeepOptions): DescriptorKeep {
  let latest: DescriptorSet | undefined;
  let writing: Promise<void> | undefined;

  async function writeLatest(): Promise<void> {
    while (latest !== undefined) {
      const set = latest;
      latest = undefined;
      await write(folder, set).catch((error: unknown) =>
        onProblem(`Cannot keep the descriptor set in ${folder}: it must be writable, got ${reasonOf(error)}`),
      );
    }
    writing = undefined;
  }

  return {
    keep(set) {
      latest = set;
      writing ??= writeLatest();
    },
    async [Symbol.asyncDispose]() {
      const end = new AbortController();
      await Promise.race([writing, clock.sleep(CLOSE_MAX_MS, end.signal).catch(() => {})]);
      end.abort();
    },
  };
}

/**
 * The table that was last kept in a folder; undefined if there is none. What is torn, or not ours, is set aside. Never
 * rejects.
 */
export async function loadKeptDescriptors(
  folder: string,
  onProblem: (problem: string) => void,
): Promise<FlagTable | undefined> {
  const path = join(folder, NAME);
  try {
    await removeUnfinished(folder);
    const found = await read(path);
    if (found.kind === "usable") return found.table;
    onProblem(`Cannot use ${path}: ${found.reason}; ${await setAside(path)}`);
  } catch (error) {
    if (!isMissing(error)) onProblem(`Cannot use ${path}: it must be readable, got ${reasonOf(error)}`);
  }
  return undefined;
}

/** Says what became of it. */
async function setAside(path: string): Promise<string> {
  const aside = `${path}.unusable`;
  return rename(path, aside).then(
    () => `it is ${aside} now`,
    (error: unknown) => `it could not be renamed: ${reasonOf(error)}`,
  );
}

type Kept =
  | { readonly kind: "usable"; readonly table: FlagTable }
  | { readonly kind: "unusable"; readonly reason: string };

async function read(path: string): Promise<Kept> {
  const info = await stat(path);
  // Reading a pipe or a device might never end.
  if (!info.isFile()) return { kind: "unusable", reason: "it must be a file, got something else" };
  if (info.size > setBytesMax + sealBytes)
    return {
      kind: "unusable",
      reason: `it must have at most ${setBytesMax + sealBytes} bytes, got ${info.size}`,
    };
  const set = await unseal(await readFile(path));
  if (set === undefined)
    return {
      kind: "unusable",
      reason: "it must be as it was written, got bytes that do not fit their checksum",
    };
  try {
    return { kind: "usable", table: await parseDescriptorSet(path, set) };
  } catch (error) {
    if (!(error instanceof DescriptorError)) throw error;
    return { kind: "unusable", reason: error.message };
  }
}

/**
 * Whatever happens meanwhile, the file is the old set or the new one. Of two daemons with one folder the last to rename
 * wins; each has an unfinished file of its own.
 */
async function write(folder: string, { bytes, hash }: DescriptorSet): Promise<void> {
  await createFolder(folder, 0o700);
  const path = join(folder, NAME);
  const unfinished = `${path}.unfinished-${randomBytes(6).toString("hex")}`;
  try {
    const file = await open(unfinished, "wx", 0o600);
    try {
      await file.writeFile(bytes);
      // Goes behind what is written already.
      await file.writeFile(sealOf(hash));
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

/** Left by daemons that died. If another is writing one just now, it keeps the next set. */
async function removeUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (UNFINISHED.test(name)) await rm(join(folder, name), { force: true }).catch(() => {});
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
