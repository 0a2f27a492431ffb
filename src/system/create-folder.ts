import { mkdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";

/**
 * Creates a folder and those above it that are missing. Node's own recursive mkdir never returns where the system
 * says "no such folder" below a folder that exists, as in /proc.
 */
export async function createFolder(path: string, mode: number): Promise<void> {
  const missing: string[] = [];
  let folder = resolve(path);
  while (!(await exists(folder)) && dirname(folder) !== folder) {
    missing.unshift(folder);
    folder = dirname(folder);
  }
  for (const each of missing) {
    await mkdir(each, { mode }).catch((error: unknown) => {
      // Somebody else was faster.
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    });
  }
  if (!(await stat(path)).isDirectory()) {
    throw Object.assign(new Error(`${path} is not a folder`), { code: "EEXIST" });
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
