import { lstat } from "node:fs/promises";
import { geteuid } from "node:process";
import { createFolder } from "../../system/create-folder.ts";

/**
 * Makes sure of a folder that nobody else can look into or put anything in: whoever could replace a socket there
 * would decide what flags are. Rejects if it is open to others, or somebody else's.
 */
export async function openPrivateFolder(path: string): Promise<void> {
  await createFolder(path, 0o700);
  const found = await lstat(path);
  const mode = (found.mode & 0o777).toString(8);
  const must = `Cannot use the folder ${path}: must be a folder of this user with mode 700`;
  if (!found.isDirectory()) throw new Error(`${must}, got a link`);
  if (found.uid !== geteuid?.()) throw new Error(`${must}, got one of user ${found.uid}`);
  if ((found.mode & 0o077) !== 0) throw new Error(`${must}, got mode ${mode}`);
}
