import { readFile } from "node:fs/promises";

/** One instruction of a Dockerfile, continued lines joined. */
export interface Instruction {
  /** `COPY` */
  readonly name: string;
  /** `--from=compiled`, without the dashes. */
  readonly options: Readonly<Record<string, string>>;
  /** What follows the options. */
  readonly text: string;
  /** The same as words, or as the array where it is one. */
  readonly words: readonly string[];
}

/** What stands between one `FROM` and the next. */
export interface Stage {
  readonly name: string;
  readonly instructions: readonly Instruction[];
}

export async function loadDockerfile(): Promise<readonly Stage[]> {
  return parseDockerfile(await readFile(new URL("../../Dockerfile", import.meta.url), "utf8"));
}

export function parseDockerfile(text: string): readonly Stage[] {
  const lines = text
    .replaceAll(/^\s*#.*\n/gm, "")
    .replaceAll(/\\\n/g, " ")
    .split("\n");
  const stages: { name: string; instructions: Instruction[] }[] = [];
  for (const line of lines.filter((line) => line.trim() !== "")) {
    const instruction = parseInstruction(line);
    if (instruction.name === "FROM") {
      const [, as, name] = instruction.words;
      stages.push({ name: as?.toUpperCase() === "AS" ? (name ?? "") : "", instructions: [] });
    }
    stages.at(-1)?.instructions.push(instruction);
  }
  return stages;
}

function parseInstruction(line: string): Instruction {
  const [, name = "", given = "", text = ""] = /^\s*(\w+)\s+((?:--\S+\s+)*)(.*?)\s*$/.exec(line) ?? [];
  const options = [...given.matchAll(/--([\w-]+)=(\S+)/g)].map(([, key = "", value = ""]) => [key, value]);
  return { name: name.toUpperCase(), options: Object.fromEntries(options), text, words: wordsOf(text) };
}

function wordsOf(text: string): readonly string[] {
  const array = /\[.*\]$/.exec(text)?.[0];
  return array === undefined ? text.split(/\s+/) : (JSON.parse(array) as string[]);
}

/** The stage that becomes the image. */
export function finalStage(stages: readonly Stage[]): Stage {
  const last = stages.at(-1);
  if (last === undefined) throw new Error("Cannot find a stage in the Dockerfile");
  return last;
}

/** What an instruction says, of the ones with this name the last. */
export function lastOf(stage: Stage, name: string): Instruction {
  const found = stage.instructions.findLast((instruction) => instruction.name === name);
  if (found === undefined) throw new Error(`Cannot find ${name} in the Dockerfile's last stage`);
  return found;
}

/** The variables that a stage sets. */
export function variablesOf(stage: Stage): Readonly<Record<string, string>> {
  const set = stage.instructions.filter(({ name }) => name === "ENV").flatMap(({ words }) => words);
  return Object.fromEntries(
    set.map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]),
  );
}
