import { execFile } from "node:child_process";
import { cp, mkdir, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { inject } from "vitest";

const root = new URL("../..", import.meta.url).pathname;

/** A clone of the repository as it is now, with what `npm ci` installs, and the shell of whoever just made it. */
export interface FreshClone extends AsyncDisposable {
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Copies what git would: what is in the index, and what is new and not ignored. */
export async function cloneRepository(name: string): Promise<FreshClone> {
  const folder = join(inject("runFolder"), name);
  const { stdout } = await promisify(execFile)(
    "git",
    ["-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"],
    {
      cwd: root,
      maxBuffer: 64 * 1024 * 1024,
    },
  );
  for (const path of stdout.split("\0").filter((path) => path !== "" && path !== "node_modules")) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    // What was deleted is still in the index.
    await cp(join(root, path), join(folder, path), { errorOnExist: true }).catch(ignoreMissing);
  }
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  return {
    folder,
    env: freshEnvironment(),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true, maxRetries: 10 }),
  };
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
}

const KEPT = ["HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"];

/** Nothing of the npm and the test runner that run us, no setting of pbflagd's, and only the machine's own programs. */
export function freshEnvironment(): Readonly<Record<string, string>> {
  const kept = KEPT.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  const path = (process.env["PATH"] ?? "")
    .split(":")
    .filter((folder) => !/node_modules|node-gyp-bin/.test(folder));
  return { ...Object.fromEntries(kept), PATH: path.join(":"), TERM: "xterm" };
}
