import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { hashBytes } from "../system/hash-bytes.ts";
import { runInSlices } from "../system/run-in-slices.ts";
import type { DescriptorSet, FlagTable } from "./definition.ts";
import { DescriptorError, type DescriptorSource, parseDescriptorsInSteps } from "./parse-descriptors.ts";

/** All sources together. The sets of large companies' whole repositories have a few MiB. */
export const setBytesMax = 64 * 1024 * 1024;
const filesMax = 1_000;

/**
 * Reads a descriptor set from a file, or from all `.pb` files of a directory, merged. Parses it without holding up the
 * process; or resolves with `known` itself, if that was made of the same bytes. Throws a DescriptorError that names the path.
 */
export async function loadDescriptors(path: string, known?: FlagTable): Promise<FlagTable> {
  const sources = await readSources(path);
  const descriptorSet = await toDescriptorSet(sources);
  if (known?.descriptorSet?.hash === descriptorSet.hash) return known;
  return { ...(await runInSlices(parseDescriptorsInSteps(sources))), descriptorSet };
}

/**
 * The same for a descriptor set that came from elsewhere, and whose hash has been checked: `name` says from where.
 * Throws a DescriptorError.
 */
export async function parseDescriptorSet(name: string, descriptorSet: DescriptorSet): Promise<FlagTable> {
  const { bytes } = descriptorSet;
  checkSize(name, bytes.length, setBytesMax);
  const table = await runInSlices(parseDescriptorsInSteps([{ name, bytes }]));
  return { ...table, descriptorSet };
}

/** Protobuf messages that are strung together are one merged message. */
async function toDescriptorSet(sources: readonly DescriptorSource[]): Promise<DescriptorSet> {
  const bytes = Buffer.concat(sources.map((source) => source.bytes));
  return { bytes, hash: await hashBytes(bytes) };
}

async function readSources(path: string): Promise<readonly DescriptorSource[]> {
  const sources: DescriptorSource[] = [];
  let bytesLeft = setBytesMax;
  for (const name of await filesAt(path)) {
    const source = await readSource(name, bytesLeft);
    sources.push(source);
    bytesLeft -= source.bytes.length;
  }
  return sources;
}

/** Hidden files are left out: `..data` of Kubernetes, and what editors and rsync have not finished. */
async function filesAt(path: string): Promise<readonly string[]> {
  if (!(await attempt(path, () => stat(path))).isDirectory()) return [path];
  const names = await attempt(path, () => readdir(path));
  const files = names.filter((name) => name.endsWith(".pb") && !name.startsWith(".")).toSorted();
  if (files.length === 0) throw unusable(path, "a directory must hold .pb files, got none");
  if (files.length > filesMax)
    throw unusable(path, `it must hold at most ${filesMax} .pb files, got ${files.length}`);
  return files.map((name) => join(path, name));
}

async function readSource(path: string, bytesLeft: number): Promise<DescriptorSource> {
  const { size } = await checked(path);
  // Before memory is spent on it; and again, because it may have grown.
  checkSize(path, size, bytesLeft);
  const bytes = await attempt(path, () => readFile(path));
  checkSize(path, bytes.length, bytesLeft);
  return { name: path, bytes };
}

async function checked(path: string): Promise<{ readonly size: number }> {
  const info = await attempt(path, () => stat(path));
  // Reading a pipe or a device might never end.
  if (!info.isFile()) throw unusable(path, "it must be a file, got something else");
  return info;
}

function checkSize(path: string, size: number, bytesLeft: number): void {
  if (size === 0) throw unusable(path, "it must hold a FileDescriptorSet, got an empty file");
  if (size > bytesLeft)
    throw unusable(path, `all files must have at most ${setBytesMax} bytes together, got more`);
}

async function attempt<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw unusable(path, `it must be readable, got ${reasonOf(error)}`, error);
  }
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return reasons[code] ?? (error instanceof Error ? error.message : String(error));
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  ENOTDIR: "a path that leads through a file",
  EACCES: "no permission",
  EPERM: "no permission",
  ELOOP: "a link that leads to itself",
};

function unusable(path: string, problem: string, cause?: unknown): DescriptorError {
  return new DescriptorError([`${path}: ${problem}`], { cause });
}
