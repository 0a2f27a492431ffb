import { execFile } from "node:child_process";
import { cp, mkdir, readdir, readFile, symlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Script } from "node:vm";
import { expect, inject, test } from "vitest";

const root = new URL("../..", import.meta.url).pathname;
const bundle = join(root, "dist/bundle");

test("this Node takes up what was compiled when the bundle was made", async () => {
  const [compiled = ""] = await compiledFiles();
  const script = new Script(await readFile(join(bundle, "pbflagd.cjs"), "latin1"), {
    cachedData: await readFile(join(bundle, compiled)),
  });
  expect(compiled).toContain(process.version);
  expect(script.cachedDataRejected).toBe(false);
});

test("pbflagd starts all the same where nothing was compiled", async () => {
  const folder = join(inject("runFolder"), "uncompiled");
  await mkdir(folder, { recursive: true });
  await cp(join(root, "dist"), join(folder, "dist"), {
    recursive: true,
    filter: (path) => !isCompiled(path),
  });
  await symlink(join(root, "package.json"), join(folder, "package.json"));
  const { stdout } = await promisify(execFile)(process.execPath, [join(folder, "dist/main.js"), "--version"]);
  expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test("the licence of every package in the bundle stands beside it", async () => {
  // Long lines are broken, texts as well.
  const code = (await readFile(join(bundle, "pbflagd.cjs"), "latin1")).replaceAll("\\\n", "");
  const packages = new Set(
    [...code.matchAll(/"node_modules\/(?:[^"]*node_modules\/)?((?:@[^/]+\/)?[^/"]+)[^"]*"\(/g)].map(
      ([, name]) => name,
    ),
  );
  const licences = await readFile(join(bundle, "LICENSES.txt"), "utf8");
  const named = [...licences.matchAll(/^(\S+) \d[^\s,]+, \S.*$/gm)].map(([, name]) => name);
  expect(packages.size).toBeGreaterThan(10);
  expect([...packages].filter((name) => !named.includes(name))).toEqual([]);
});

test("functions keep their names, which is what a stack trace is read by", async () => {
  expect(await readFile(join(bundle, "pbflagd.cjs"), "latin1")).toMatch(/async function openDaemon\(config/);
});

async function compiledFiles(): Promise<readonly string[]> {
  return (await readdir(bundle)).filter(isCompiled);
}

function isCompiled(path: string): boolean {
  return path.endsWith(".bin");
}
