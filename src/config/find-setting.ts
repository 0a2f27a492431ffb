import type { ConfigFile } from "./config-file.ts";
import { fillIn, shorten } from "./fill-in.ts";
import { mask } from "./option.ts";
import { keysOf, type SettingKey, settings, toFlag, toVariable } from "./settings.ts";

/** All places where settings come from. */
export interface ConfigSources {
  /** Given on the command line, by flag: `--cache-kill-ttl`. */
  readonly args: Readonly<Record<string, string | undefined>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly file?: ConfigFile | undefined;
  /** Whether people read the output: then logs are for people unless told otherwise. */
  readonly terminal?: boolean;
}

/** What an operator set, and where. */
export interface Found {
  readonly text: string;
  /** For people: passwords masked. */
  readonly shown: string;
  /** The name the operator used: `--listen`, `PBFLAGS_LISTEN`, `listen (root.yaml:3)`. */
  readonly source: string;
}

interface Candidate extends Found {
  /** What is wrong before the value is even looked at. */
  readonly problem?: string | undefined;
}

/** The value of one setting from the strongest place that has it. A value that cannot be used goes to `problems`. */
export function findSetting(key: SettingKey, sources: ConfigSources, problems: string[]): Found | undefined {
  const candidates = [fromArgs, fromEnv, fromFile]
    .map((from) => from(key, sources))
    .find((some) => some.length > 0);
  const [first, second] = candidates ?? [];
  if (first === undefined) return undefined;
  if (second !== undefined && second.text !== first.text) {
    problems.push(`${first.source} and ${second.source} name the same setting: set one of them`);
  }
  if (first.problem !== undefined) problems.push(`${first.source}: ${first.problem}`);
  else if (settings[key].kind.parse(first.text) === undefined) {
    problems.push(`${first.source}: expected ${settings[key].kind.expects}, got "${shorten(first.shown)}"`);
  }
  return first;
}

function fromArgs(key: SettingKey, { args }: ConfigSources): readonly Candidate[] {
  return keysOf(key).flatMap((name) => {
    const text = args[toFlag(name)];
    return text === undefined ? [] : [{ text, shown: show(text), source: toFlag(name) }];
  });
}

/** An empty variable counts as unset: that is what `${NAME:-}` in a compose file leaves behind. */
function fromEnv(key: SettingKey, { env }: ConfigSources): readonly Candidate[] {
  return keysOf(key).flatMap((name) => {
    const text = env[toVariable(name)];
    return text === undefined || text === "" ? [] : [{ text, shown: show(text), source: toVariable(name) }];
  });
}

function fromFile(key: SettingKey, { env, file }: ConfigSources): readonly Candidate[] {
  return keysOf(key).flatMap((name) => {
    const entry = file?.entries.get(name);
    if (file === undefined || entry === undefined) return [];
    const { text, problem } = fillIn(entry.text, env, settings[key].kind.secret ?? false);
    // What a variable holds may be secret whichever setting it is for, so it is shown by its name.
    return [{ text, shown: show(entry.text), source: `${name} (${file.name}:${entry.line})`, problem }];
  });
}

/** Masked whatever the setting: a database's URL may have been given to the wrong one. */
function show(text: string): string {
  return mask(text);
}
