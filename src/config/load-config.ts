import { createReadStream } from "node:fs";
import { buffer } from "node:stream/consumers";
import { ConfigError } from "./config-error.ts";
import type { ConfigFile } from "./config-file.ts";
import type { Purpose } from "./contradictions.ts";
import type { ConfigSources } from "./find-setting.ts";
import { mask } from "./option.ts";
import { type LoadedConfig, parseConfig } from "./parse-config.ts";

export type { LoadedConfig } from "./parse-config.ts";

/** Where configuration comes from besides the file, which these name. */
export type LoadSources = Omit<ConfigSources, "file">;

/** Where a configuration came from, to read it again. */
export interface ConfigSource {
  /** Of the file. Undefined: there is none. */
  readonly path: string | undefined;
  /** The same command line and environment, and the file as it is now. Rejects with a ConfigError, and nothing else. */
  load(): Promise<LoadedConfig>;
}

/** The sources of one command line, to be loaded now and again. */
export function createConfigSource(sources: LoadSources, purpose: Purpose): ConfigSource {
  return { path: nameFile(sources)[1], load: () => loadConfig(sources, purpose) };
}

/**
 * Reads the file that `--config`, else `PBFLAGS_CONFIG`, names, and puts the configuration together.
 * Throws a ConfigError, and nothing else, for whatever is wrong with it.
 */
export async function loadConfig(sources: LoadSources, purpose: Purpose): Promise<LoadedConfig> {
  const [source, path] = nameFile(sources);
  const file = path === undefined ? undefined : await loadFile(source, path);
  return parseConfig({ ...sources, file }, purpose);
}

function nameFile({ args, env }: LoadSources): readonly [source: string, path: string | undefined] {
  if (args["--config"] !== undefined) return ["--config", args["--config"]];
  const path = env["PBFLAGS_CONFIG"];
  return ["PBFLAGS_CONFIG", path === "" ? undefined : path];
}

async function loadFile(source: string, path: string): Promise<ConfigFile> {
  // Loaded only where there is a file: `pbflagd health` has to be quick.
  const { FILE_BYTES_MAX, parseConfigFile } = await import("./config-file.ts");
  try {
    // One byte more than allowed is enough to see that there are too many, even of /dev/zero.
    const bytes = await buffer(createReadStream(path, { end: FILE_BYTES_MAX }));
    return parseConfigFile(path, new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new ConfigError([`${source}: cannot read ${JSON.stringify(mask(path))}: ${describe(error)}`]);
  }
}

function describe(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return "no such file";
  if (code === "EACCES") return "no permission";
  if (code === "EISDIR") return "it is a directory";
  if (code === "ERR_ENCODING_INVALID_ENCODED_DATA") return "it is not UTF-8 text";
  return error instanceof Error ? error.message : String(error);
}
