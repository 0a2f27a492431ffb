import { accessSync, constants, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { UpstreamError } from "../upstream-error.ts";

/** Where to look for a program, and for whom. */
export interface ProgramSearch {
  /** The upstream, for the error. */
  readonly upstream: string;
  /** `exec:/path`, or `exec:name` to be looked up. */
  readonly url: string;
  /** Folders, with colons between them. */
  readonly searchPath: string | undefined;
}

/**
 * The absolute path of the program in an `exec:` URL. A path without a slash at its start is one below the working
 * directory. Throws an UpstreamError (`url`) if there is no such file, or it may not be run.
 */
export function findProgram({ upstream, url, searchPath = "" }: ProgramSearch): string {
  const program = url.replace(/^exec:/, "");
  const cannotRun = (got: string) =>
    new UpstreamError(
      "url",
      `Cannot run upstream ${upstream}: its URL must be exec: and a program, got ${got}`,
    );
  if (program === "" || program.includes("\0")) throw cannotRun("none");
  const candidates = program.includes("/")
    ? [resolve(program)]
    : searchPath.split(":").map((folder) => resolve(join(folder, program)));
  const results = candidates.map((path) => ({ path, found: look(path) }));
  const usable = results.find(({ found }) => found === "program");
  if (usable !== undefined) return usable.path;
  // One that is there and may not be run is more likely the one that was meant.
  const near = results.find(({ found }) => found !== "nothing");
  if (near !== undefined) throw cannotRun(`${near.path}, which is ${near.found}`);
  const where = program.includes("/") ? "which does not exist" : "which is in no folder of PATH";
  throw cannotRun(`${program}, ${where}`);
}

function look(path: string): "program" | "nothing" | "no file" | "not executable" {
  try {
    if (!statSync(path).isFile()) return "no file";
  } catch {
    return "nothing";
  }
  try {
    accessSync(path, constants.X_OK);
    return "program";
  } catch {
    return "not executable";
  }
}
