import { execFile } from "node:child_process";
import { mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { createFolder } from "../system/create-folder.ts";

/** Whether this file runs from src or from dist. */
const ownPackage = fileURLToPath(new URL("../..", import.meta.url));

/** Where the example flag messages of a package stand: this one's, unless another is named. */
export function exampleProtosDir(packageDir: string = ownPackage): string {
  return join(packageDir, "examples", "flags", "examples");
}

/** The example flags could not be built. The message is one line. */
export class ExampleFlagsError extends Error {
  override readonly name = "ExampleFlagsError";
}

export interface ExampleFlagsOptions {
  /** Gets the descriptor set. Created if it is missing. */
  readonly intoDir: string;
  /** Where to find `node`: the variable PATH. */
  readonly searchPath: string;
  /** The folder that holds `examples/flags`: this package's own unless set. */
  readonly packageDir?: string;
}

/** It takes a fraction of a second. */
const BUILD_TIMEOUT_MS = 60_000;

/**
 * Builds the descriptor set of the example flags and returns its path. What is there is replaced as a whole, and
 * stays as it is if nothing has changed or the protos are wrong.
 *
 * @throws ExampleFlagsError
 */
export async function buildExampleFlags(options: ExampleFlagsOptions): Promise<string> {
  const { intoDir, searchPath, packageDir = ownPackage } = options;
  const path = join(resolve(intoDir), "example-flags.pb");
  let draft: string | undefined;
  try {
    await createFolder(dirname(path), 0o755);
    draft = await mkdtemp(`${path}.draft-`);
    const built = join(draft, "flags.binpb");
    await promisify(execFile)(
      findBuf(),
      ["build", "examples/flags", "--as-file-descriptor-set", "--exclude-source-info", "-o", built],
      {
        cwd: packageDir,
        // Without a folder for its cache, buf refuses to work where the home is missing or closed.
        env: { PATH: searchPath, BUF_CACHE_DIR: draft },
        timeout: BUILD_TIMEOUT_MS,
      },
    );
    if (!(await haveSameContent(built, path))) await rename(built, path);
    return path;
  } catch (error) {
    throw new ExampleFlagsError(`Cannot build the example flags: ${reasonOf(error)}`, { cause: error });
  } finally {
    if (draft !== undefined) await rm(draft, { recursive: true, force: true }).catch(() => {});
  }
}

function findBuf(): string {
  try {
    const manifest = createRequire(import.meta.url).resolve("@bufbuild/buf/package.json");
    return join(dirname(manifest), "bin", "buf");
  } catch {
    throw new Error("@bufbuild/buf is not installed; name your own flags with --descriptors");
  }
}

async function haveSameContent(one: string, other: string): Promise<boolean> {
  const there = await readFile(other).catch(() => undefined);
  return there !== undefined && there.equals(await readFile(one));
}

/** buf says on its standard error what is wrong with the protos. */
function reasonOf(error: unknown): string {
  if (
    error instanceof Error &&
    "stderr" in error &&
    typeof error.stderr === "string" &&
    error.stderr !== ""
  ) {
    return error.stderr.trim().replaceAll("\n", "; ");
  }
  return error instanceof Error ? error.message : String(error);
}
