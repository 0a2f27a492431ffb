import { mkdir, readdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const packages = new URL("../../node_modules", import.meta.url).pathname;

/**
 * Makes JavaScript, which Node runs as it is, of a TypeScript file and all of ours that it imports. What it imports when it
 * needs it stays apart.
 */
export async function bundleScript(source: URL, folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  await build({
    entryPoints: { script: source.pathname },
    outdir: folder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    logLevel: "silent",
  });
  return join(folder, "script.mjs");
}

/** Lets scripts in `folder` find the packages that are installed here, but for those named. */
export async function linkPackages(folder: string, except: readonly string[] = []): Promise<void> {
  await mkdir(join(folder, "node_modules"), { recursive: true });
  const names = (await readdir(packages)).filter((name) => !name.startsWith(".") && !except.includes(name));
  await Promise.all(names.map((name) => symlink(join(packages, name), join(folder, "node_modules", name))));
}
