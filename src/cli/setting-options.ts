import { type Command, Option } from "commander";
import type { Purpose } from "../config/contradictions.ts";
import { titleOf } from "../config/document-settings.ts";
import { type ConfigSource, createConfigSource, type LoadedConfig } from "../config/load-config.ts";
import { fallbackOf, keysOf, type SettingKey, settingEntries, settings, toFlag } from "../config/settings.ts";
import type { Io } from "./io.ts";

/** Settings that every command which works on the database takes. */
export const DATABASE_SETTINGS = ["database", "data_dir"] as const;

const VARIABLES = `
Settings can also stand in the environment or in the file: --cache-kill-ttl is PBFLAGS_CACHE_KILL_TTL and
cache.kill_ttl, --config is PBFLAGS_CONFIG. docs/configuration.md explains each, and the pool of upstreams.`;

/** Gives a command `--config` and a flag for each of these settings. Unset: for all settings. */
export function addSettings(command: Command, keys?: readonly SettingKey[]): Command {
  command.addHelpText("after", VARIABLES);
  command.addOption(group(new Option("--config <path>", "Configuration file, YAML."), "General"));
  for (const [key] of settingEntries) {
    if (keys !== undefined && !keys.includes(key)) continue;
    for (const name of keysOf(key)) command.addOption(toOption(key, name, command.name() === "dev"));
  }
  return command;
}

/** The configuration of a command, with the flags that were given to it. Throws a ConfigError. */
export function loadSettings(command: Command, io: Io, purpose: Purpose): Promise<LoadedConfig> {
  return createSource(command, io, purpose).load();
}

/** The same, to be loaded now and again. */
export function createSource(command: Command, io: Io, purpose: Purpose): ConfigSource {
  return createConfigSource({ args: argsOf(command), env: io.env, terminal: io.isTerminal }, purpose);
}

function toOption(key: SettingKey, name: string, dev: boolean): Option {
  const { kind, doc } = settings[key];
  const flags = `${toFlag(name)} ${takesBoolean(key) ? `[${kind.placeholder}]` : `<${kind.placeholder}>`}`;
  const fallback = fallbackOf(settings[key], { dev, terminal: false });
  const suffix = fallback === undefined ? "" : ` (default: ${fallback})`;
  return group(
    new Option(flags, name === key ? `${doc}${suffix}` : `The same as ${toFlag(key)}.`),
    titleOf(key),
  );
}

function takesBoolean(key: SettingKey): boolean {
  return settings[key].kind.placeholder === "true|false";
}

function group(option: Option, title: string): Option {
  return option.helpGroup(`${title}:`);
}

/** What was given on the command line, by flag. */
function argsOf(command: Command): Readonly<Record<string, string | undefined>> {
  const given = command.options.flatMap((option) => {
    const name = option.attributeName();
    if (command.getOptionValueSource(name) !== "cli" || option.long === undefined) return [];
    // `--require-store` without a value means true.
    return [[option.long, String(command.getOptionValue(name))]];
  });
  return Object.fromEntries(given);
}
