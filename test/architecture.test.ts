import { readFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { expect, test } from "vitest";

const src = new URL("../src/", import.meta.url).pathname;

/** From top to bottom. A folder may import what stands in a lower row; rooms in one row do not know each other. */
const ROWS: readonly (readonly string[])[] = [
  ["main"],
  ["cli", "development", "workers"],
  ["daemon"],
  ["server"],
  ["namespaces"],
  ["cache", "kills"],
  ["store"],
  ["upstream", "health"],
  ["evaluation"],
  ["flags"],
  ["system", "gen"],
];

/** Rooms beside the rows, the few who may enter them, and what they may import themselves. */
const SIDE_ROOMS: Readonly<
  Record<string, { readonly guests: readonly string[]; readonly imports: readonly string[] }>
> = {
  config: { guests: ["main", "cli", "development", "workers", "daemon"], imports: ["upstream"] },
  telemetry: {
    guests: ["main", "development", "workers", "daemon", "namespaces", "server"],
    imports: ["system"],
  },
};

/** Packages that only the folders (or files) named here may import. */
const PACKAGE_HOMES: readonly (readonly [RegExp, RegExp])[] = [
  [/^pg$/, /^(store|kills)\//],
  [/^@connectrpc\//, /^(server|upstream)\//],
  [/^@opentelemetry\/(?!api)/, /^telemetry\//],
];

/** What only these files may touch. */
const GLOBAL_HOMES: readonly (readonly [RegExp, RegExp, string])[] = [
  [/\bprocess\b(?!or)\./, /^main\.ts$/, "process"],
  [
    /\bDate\.|\bnew Date\b|\bMath\.random\b|(?<![.\w])set(Timeout|Interval)\(/,
    /^(system\/|main\.ts$)/,
    "the clock, timers or chance",
  ],
];

test("folders import only what lies beneath them", async () => {
  const wrong: string[] = [];
  for (const file of await sourceFiles()) {
    const text = readFileSync(join(src, file), "utf8");
    const folder = folderOf(file);
    for (const specifier of importsOf(text)) {
      if (specifier.startsWith(".")) {
        const imported = folderOf(join(dirname(file), specifier));
        if (!mayImport(folder, imported)) wrong.push(`${file} imports ${imported}`);
      }
      for (const [name, home] of PACKAGE_HOMES) {
        if (name.test(specifier) && !home.test(file)) wrong.push(`${file} imports ${specifier}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

test("only their homes touch the process, the clock and chance", async () => {
  const wrong: string[] = [];
  for (const file of await sourceFiles()) {
    const text = withoutComments(readFileSync(join(src, file), "utf8"));
    for (const [pattern, home, what] of GLOBAL_HOMES) {
      if (pattern.test(text) && !home.test(file)) wrong.push(`${file} touches ${what}`);
    }
  }
  expect(wrong).toEqual([]);
});

test("the pure core neither waits nor knows Node", () => {
  for (const file of ["evaluation/precedence.ts", "flags/definition.ts"]) {
    const text = withoutComments(readFileSync(join(src, file), "utf8"));
    expect(text, file).not.toMatch(/\bawait\b|from "node:|\bClock\b/);
  }
});

function mayImport(folder: string, imported: string): boolean {
  if (folder === imported) return true;
  const home = SIDE_ROOMS[folder];
  if (home !== undefined) return home.imports.includes(imported);
  const room = SIDE_ROOMS[imported];
  if (room !== undefined) return room.guests.includes(folder);
  const row = (name: string) => ROWS.findIndex((names) => names.includes(name));
  return row(folder) !== -1 && row(folder) < row(imported);
}

async function sourceFiles(): Promise<string[]> {
  const files = await readdir(src, { recursive: true });
  return files
    .map((file) => relative(src, join(src, file)))
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts") && !file.startsWith("gen/"))
    .toSorted();
}

function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map(([, specifier = ""]) => specifier);
}

/** The folder of a file in src; a file at its root stands for itself. */
function folderOf(path: string): string {
  const [first = ""] = path.split("/");
  return first.replace(/\.[jt]s$/, "");
}

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/(^|\s)\/\/.*$/gm, "");
}
