import { join } from "node:path";
import { readKeptFile, removeUnfinished, setAside } from "../../system/kept-file.ts";
import { runInSlices } from "../../system/run-in-slices.ts";
import { type Decoded, decodeSnapshot } from "./decode-snapshot.ts";
import { SNAPSHOT_BYTES_MAX } from "./encode-snapshot.ts";
import { isOfStore, type SnapshotContent } from "./snapshot-content.ts";
import { findHolder } from "./snapshot-lock.ts";

/** Its file in a folder. */
export function snapshotPath(folder: string): string {
  return join(folder, "snapshot");
}

export interface SnapshotLoadOptions {
  /** What this daemon's store is called, as `identifyStore` names it. */
  readonly store: string;
  /** Told a sentence. */
  readonly onProblem: (problem: string) => void;
}

/**
 * The snapshot that was last written in a folder; undefined if there is none, or if a daemon that runs keeps its own
 * there. What is torn, or not ours, or of another format or store, is set aside. Never rejects.
 */
export async function loadSnapshot(
  folder: string,
  { store, onProblem }: SnapshotLoadOptions,
): Promise<SnapshotContent | undefined> {
  const path = snapshotPath(folder);
  const holder = await findHolder(folder);
  if (holder !== undefined) {
    onProblem(`Cannot use ${path}: it must be of one daemon only, got ${holder}`);
    return undefined;
  }
  try {
    await removeUnfinished(path);
    const found = await read(path, store);
    if (found.kind === "usable") return found.content;
    if (found.kind === "unusable") onProblem(`Cannot use ${path}: ${found.reason}; ${await setAside(path)}`);
  } catch (error) {
    const got = error instanceof Error ? error.message : String(error);
    onProblem(`Cannot use ${path}: it must be readable, got ${got}`);
  }
  return undefined;
}

async function read(path: string, store: string): Promise<Decoded | { readonly kind: "missing" }> {
  const found = await readKeptFile(path, SNAPSHOT_BYTES_MAX);
  if (found.kind !== "whole") return found;
  const decoded = await runInSlices(decodeSnapshot(found.bytes));
  if (decoded.kind !== "usable" || isOfStore(decoded.content, store)) return decoded;
  return { kind: "unusable", reason: "it must be of this store and these descriptors, got one of others" };
}
