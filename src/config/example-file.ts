import { type Setting, type SettingKey, settingEntries, settingGroups, toVariable } from "./settings.ts";
import { examplePool } from "./upstreams/example-pool.ts";

/** What each example sets, instead of leaving it commented out. */
const EXAMPLES: Readonly<Record<"root" | "proxy", Readonly<Partial<Record<SettingKey, string>>>>> = {
  root: {
    descriptors: "/etc/pbflagd/descriptors.pb",
    database: "postgres://pbflagd:${DATABASE_PASSWORD}@localhost:5432/flags",
    listen: ":9201",
  },
  proxy: { server: "http://pbflagd-root:9201" },
};

const SUGGESTIONS: Readonly<Partial<Record<SettingKey, string>>> = {
  descriptors: "/etc/pbflagd/descriptors.pb",
  database_listen: "postgres://pbflagd@localhost:5432/flags",
  env_name: "production",
  env_color: '"#c0392b"',
};

const WIDTH = 100;

/** config/root.yaml or config/proxy.yaml: every setting of that mode, explained, its default commented out. */
export function exampleFile(mode: "root" | "proxy"): string {
  const other = mode === "root" ? "proxy" : "root";
  const lines = [
    ...comment(`pbflagd in ${mode} mode: pbflagd serve --config ${mode}.yaml`),
    ...comment(
      "What is commented out shows the default, or an example where there is none. docs/configuration.md explains.",
    ),
    ...comment(`Settings of other modes are left out: ${keysFor([other, "dev"]).join(", ")}.`),
  ];
  for (const group of ["", ...settingGroups]) {
    if (group !== "") lines.push("", `${group}:`);
    const indent = group === "" ? "" : "  ";
    for (const [key, setting] of settingEntries) {
      const [name = "", owner = ""] = key.split(".").toReversed();
      if (owner !== group || setting.mode === other || setting.mode === "dev") continue;
      // The first setting follows its group's name at once.
      if (lines.at(-1) !== `${group}:`) lines.push("");
      lines.push(...comment(explain(setting), indent), `${indent}${set(key, name, setting, mode)}`);
    }
  }
  if (mode === "proxy") lines.push("", ...explainPool(), ...examplePool(comment).map(commentOut));
  return `${lines.join("\n")}\n`;
}

function explainPool(): readonly string[] {
  return comment(
    "A pool of upstreams, in place of `server`. It stands in the file only, not on the command line or in variables. All of it but `servers` shows the default.",
  );
}

function commentOut(line: string): string {
  return line === "" ? "#" : `# ${line}`;
}

function keysFor(modes: readonly Setting["mode"][]): readonly SettingKey[] {
  return settingEntries.filter(([, { mode }]) => modes.includes(mode)).map(([key]) => key);
}

function set(key: SettingKey, name: string, setting: Setting, mode: "root" | "proxy"): string {
  const value = EXAMPLES[mode][key];
  return value === undefined
    ? `# ${name}: ${setting.fallback ?? SUGGESTIONS[key] ?? toVariable(key)}`
    : `${name}: ${value}`;
}

function explain({ doc, later }: Setting): string {
  return later ? `${doc} Without effect in this version.` : doc;
}

/** Comment lines of a readable width. */
function comment(text: string, indent = ""): readonly string[] {
  const lines: string[] = [];
  let line = `${indent}#`;
  for (const word of text.split(" ")) {
    if (line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = `${indent}#`;
    }
    line += ` ${word}`;
  }
  return [...lines, line];
}
