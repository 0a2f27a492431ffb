import { join } from "node:path";
import type { Clock } from "../system/clock.ts";
import { readKeptFile, removeUnfinished, setAside, writeKeptFile } from "../system/kept-file.ts";
import type { DescriptorSet, FlagTable } from "./definition.ts";
import { parseDescriptorSet, setBytesMax } from "./load-descriptors.ts";
import { DescriptorError } from "./parse-descriptors.ts";

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
/** A disk that takes longer has failed. */
const CLOSE_MAX_MS = 2_000;

export function openDescriptorKeep({ folder, clock, onProblem }: DescriptorKeepOptions): DescriptorKeep {
  const path = join(folder, NAME);
  let latest: DescriptorSet | undefined;
  let writing: Promise<void> | undefined;

  async function writeLatest(): Promise<void> {
    while (latest !== undefined) {
      const set = latest;
      latest = undefined;
      await write(path, set).catch((error: unknown) =>
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
    await removeUnfinished(path);
    const found = await read(path);
    if (found.kind === "usable") return found.table;
    if (found.kind === "unusable") onProblem(`Cannot use ${path}: ${found.reason}; ${await setAside(path)}`);
  } catch (error) {
    onProblem(`Cannot use ${path}: it must be readable, got ${reasonOf(error)}`);
  }
  return undefined;
}

type Kept =
  | { readonly kind: "missing" }
  | { readonly kind: "usable"; readonly table: FlagTable }
  | { readonly kind: "unusable"; readonly reason: string };

async function read(path: string): Promise<Kept> {
  const found = await readKeptFile(path, setBytesMax);
  if (found.kind !== "whole") return found;
  const { bytes, hash } = found;
  try {
    return { kind: "usable", table: await parseDescriptorSet(path, { bytes, hash }) };
  } catch (error) {
    if (!(error instanceof DescriptorError)) throw error;
    return { kind: "unusable", reason: error.message };
  }
}

async function write(path: string, { bytes }: DescriptorSet): Promise<void> {
  await writeKeptFile(path, inChunks(bytes));
}

/** Hashing one takes a fraction of a millisecond. */
const CHUNK_BYTES = 256 * 1024;

function* inChunks(bytes: Uint8Array): Generator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) yield bytes.subarray(at, at + CHUNK_BYTES);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
