import { chmod } from "node:fs/promises";

/** Runs something as a user who can get into these folders, the outer ones first, and cannot write into them. */
export async function asOrdinaryUser(folders: readonly string[], run: () => Promise<void>): Promise<void> {
  // Root may write everywhere.
  const isRoot = process.geteuid?.() === 0;
  await Promise.all(folders.map((folder) => chmod(folder, 0o555)));
  if (isRoot) process.seteuid?.(65534);
  try {
    await run();
  } finally {
    if (isRoot) process.seteuid?.(0);
    await Promise.all(folders.map((folder) => chmod(folder, 0o755)));
  }
}
