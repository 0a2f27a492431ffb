import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, resolve, sep } from "node:path";

/** Programs that put the load on, and the Debian packages that have them. */
const PACKAGES = { wrk: "wrk", h2load: "nghttp2-client", taskset: "util-linux" } as const;

/** Ends the benchmark where one of them is missing, with a sentence that says which and where it is to be had. */
export async function requireTools(...names: readonly (keyof typeof PACKAGES)[]): Promise<void> {
  const found = await Promise.all(names.map(async (name) => (await findProgram(name)) !== undefined));
  const missing = names.filter((_, i) => !found[i]);
  if (missing.length === 0) return;
  const named = missing.map((name) => `${name} (Debian: ${PACKAGES[name]})`).join(", ");
  console.error(`Cannot measure: not found on PATH: ${named}`);
  process.exit(1);
}

/** The path of a program on PATH, or of one that is named by its path. Undefined: there is none. */
export async function findProgram(name: string): Promise<string | undefined> {
  const folders = name.includes(sep) ? [""] : (process.env["PATH"] ?? "").split(delimiter);
  for (const folder of folders) {
    const path = resolve(folder, name);
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  return undefined;
}
