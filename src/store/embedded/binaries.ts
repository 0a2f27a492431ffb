import { createHash } from "node:crypto";
import { access, chmod, cp, readdir, realpath, rename, rm, stat } from "node:fs/promises";
import { platform } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { EmbeddedPostgresError } from "./embedded-error.ts";
import { findNpmPackage, npmPackageName, repairLinks } from "./npm-package.ts";
import { type Account, runProgram } from "./programs.ts";
import { openSystemFolder, unfinished } from "./system-folder.ts";

/** The oldest major version that everything here works with. */
const MAJOR_MIN = 14;
const DEBIAN_FOLDER = "/usr/lib/postgresql";
const PROGRAMS = ["postgres", "initdb", "pg_ctl"] as const;

export interface Binaries {
  /** Holds `postgres`, `initdb` and `pg_ctl`. */
  readonly folder: string;
  readonly major: number;
}

export interface FindBinariesOptions {
  /** For messages. */
  readonly dataDir: string;
  /** `auto`: the machine's own before the npm package. `npm`: the package only. */
  readonly binaries: "auto" | "npm";
  /** The PATH to look for `postgres` on. */
  readonly searchPath: string;
  /** The major version that wrote the data; undefined if there is none yet. */
  readonly dataMajor: number | undefined;
  /** Whom the programs will run as; undefined: as ourselves. */
  readonly account: Account | undefined;
}

/** The path of one of the programs. */
export function programPath(binaries: Pick<Binaries, "folder">, program: (typeof PROGRAMS)[number]): string {
  return join(binaries.folder, platform() === "win32" ? `${program}.exe` : program);
}

/** Finds programs that run here and fit the data. */
export async function findBinaries(options: FindBinariesOptions): Promise<Binaries> {
  const unfit: string[] = [];
  for (const candidate of await listCandidates(options)) {
    const tried = await tryCandidate(candidate, options);
    if (typeof tried !== "string") return tried;
    unfit.push(tried);
  }
  throw notFound(options, unfit);
}

interface Candidate {
  readonly folder: string;
  /** Everything the programs need, if it can be copied elsewhere. */
  readonly movable: string | undefined;
}

async function listCandidates(options: FindBinariesOptions): Promise<readonly Candidate[]> {
  const native = findNpmPackage();
  const npm = native === undefined ? [] : [{ folder: join(native, "bin"), movable: native }];
  if (options.binaries === "npm") return npm;
  const own = [...(await onPath(options.searchPath)), ...(await inDebianFolder())];
  return [...[...new Set(own)].map((folder) => ({ folder, movable: undefined })), ...npm];
}

async function onPath(searchPath: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const folder of searchPath.split(delimiter).filter((entry) => entry !== "")) {
    // What is on the PATH is often a link; initdb lies beside what it leads to.
    const program = await realpath(programPath({ folder }, "postgres")).catch(() => undefined);
    if (program !== undefined && (await isComplete(dirname(program)))) found.push(dirname(program));
  }
  return found;
}

/** Debian keeps the server's programs off the PATH, one folder for each major version. */
async function inDebianFolder(): Promise<readonly string[]> {
  const versions = await readdir(DEBIAN_FOLDER).catch(() => []);
  const folders = versions
    .toSorted((a, b) => Number(b) - Number(a))
    .map((version) => join(DEBIAN_FOLDER, version, "bin"));
  const complete = await Promise.all(folders.map(isComplete));
  return folders.filter((_, i) => complete[i]);
}

async function isComplete(folder: string): Promise<boolean> {
  const found = PROGRAMS.map((program) => access(programPath({ folder }, program)));
  return (await Promise.allSettled(found)).every(({ status }) => status === "fulfilled");
}

/** The programs, ready to run; or why they will not do. */
async function tryCandidate(candidate: Candidate, options: FindBinariesOptions): Promise<Binaries | string> {
  const { folder, movable } = candidate;
  if (movable !== undefined) await repairLinks(movable);
  const { output } = await runProgram(programPath(candidate, "postgres"), ["--version"]);
  const [, version = "", digits] = /\(PostgreSQL\) ((\d+)\S*)/.exec(output) ?? [];
  if (digits === undefined) return `the one in ${folder} does not run here (${lastLine(output)})`;
  const major = Number(digits);
  if (major < MAJOR_MIN) return `Postgres ${version} in ${folder} is older than ${MAJOR_MIN}`;
  if (options.dataMajor !== undefined && major !== options.dataMajor) return `Postgres ${major} in ${folder}`;
  if (options.account === undefined) return { folder, major };
  if (await runsAs(folder, options.account)) return { folder, major };
  if (movable === undefined)
    return `Postgres ${version} in ${folder} cannot be run by uid ${options.account.uid}`;
  return { folder: await copyForOthers(movable, version), major };
}

async function runsAs(folder: string, account: Account): Promise<boolean> {
  const program = programPath({ folder }, "postgres");
  return (await runProgram(program, ["--version"], { account })).exitCode === 0;
}

/** Copies the programs from a folder that is closed to others to one where everybody may run them. */
async function copyForOthers(native: string, version: string): Promise<string> {
  const target = join(await openSystemFolder(), `postgres-${version}-${await fingerprint(native)}`);
  if (!(await isComplete(join(target, "bin")))) {
    const copy = unfinished(target);
    await cp(native, copy, { recursive: true, verbatimSymlinks: true });
    await openToOthers(copy);
    // Whoever comes second finds the first one's copy, whole.
    await rename(copy, target).catch(() => rm(copy, { recursive: true, force: true }));
  }
  return join(target, "bin");
}

/** The same for the same files, wherever they lie, so that clones share one copy. */
async function fingerprint(folder: string): Promise<string> {
  const hash = createHash("sha256");
  for (const entry of (await readdir(folder, { recursive: true })).toSorted()) {
    const { size } = await stat(join(folder, entry));
    hash.update(`${entry}\0${size}\0`);
  }
  return hash.digest("hex").slice(0, 12);
}

async function openToOthers(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await chmod(path, 0o755);
    else if (entry.isFile()) await chmod(path, (await stat(path)).mode & 0o100 ? 0o755 : 0o644);
  }
}

function notFound(options: FindBinariesOptions, unfit: readonly string[]): EmbeddedPostgresError {
  const found = unfit.length === 0 ? "found none" : `found only ${unfit.join(", ")}`;
  const cannot = `Cannot start embedded Postgres in ${options.dataDir}`;
  if (options.dataMajor !== undefined) {
    return new EmbeddedPostgresError(
      `${cannot}: its data was written by Postgres ${options.dataMajor}, ${found}. ` +
        "Install that version, or move the data directory away to begin anew",
    );
  }
  return new EmbeddedPostgresError(
    `${cannot}: no Postgres programs that fit, ${found}. ` +
      `Set a database (--database), or install ${npmPackageName()} (npm install without --omit=optional)`,
  );
}

function lastLine(output: string): string {
  return output.trim().split("\n").at(-1) ?? "";
}
