import { chmod } from "node:fs/promises";

/** Root may write everywhere, and so somebody else has to try it. Undefined: this process is not root's. */
export const ordinaryUid = process.geteuid?.() === 0 ? 65534 : undefined;

/** Runs something as a user who can get into these folders, the outer ones first, and cannot write into them. */
export async function asOrdinaryUser(folders: readonly string[], run: () => Promise<void>): Promise<void> {
  await Promise.all(folders.map((folder) => chmod(folder, 0o555)));
  if (ordinaryUid !== undefined) process.seteuid?.(ordinaryUid);
  try {
    await run();
  } finally {
    if (ordinaryUid !== undefined) process.seteuid?.(0);
    await Promise.all(folders.map((folder) => chmod(folder, 0o755)));
  }
}
