import { execFile } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const root = new URL("../..", import.meta.url).pathname;

interface LockedPackage {
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly devOptional?: boolean;
}

/** Copies into a folder what `npm ci --omit=dev --omit=optional` would install there. */
export async function copyProductionPackages(folder: string): Promise<void> {
  for (const path of await productionPackages()) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    // A package inside another one has come along with it.
    if (path.lastIndexOf("node_modules/") > 0) continue;
    await promisify(execFile)("cp", ["-R", join(root, path), dirname(join(folder, path))]);
  }
}

/** Their folders. The marks are npm's own. */
async function productionPackages(): Promise<readonly string[]> {
  const lock = JSON.parse(await readFile(join(root, "package-lock.json"), "utf8")) as {
    readonly packages: Readonly<Record<string, LockedPackage>>;
  };
  return Object.entries(lock.packages)
    .filter(([path, { dev, optional, devOptional }]) => path !== "" && !dev && !optional && !devOptional)
    .map(([path]) => path)
    .toSorted();
}
