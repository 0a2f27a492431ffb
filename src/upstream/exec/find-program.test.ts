import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, expect, test } from "vitest";
import { findProgram } from "./find-program.ts";

const folder = mkdtempSync(join(tmpdir(), "pbflagd-find-"));
const program = join(folder, "bin", "plug in");
const document = join(folder, "document");
mkdirSync(join(folder, "bin"));
writeFileSync(program, "", { mode: 0o755 });
writeFileSync(document, "", { mode: 0o644 });
afterAll(() => rmSync(folder, { recursive: true }));

const find = (url: string, searchPath?: string) => findProgram({ upstream: "plug", url, searchPath });

test("a path is that of the program, absolute or below the working directory", () => {
  expect(find(`exec:${program}`)).toBe(program);
  expect(find(`exec:./${relative(".", program)}`)).toBe(program);
});

test("a name is looked up in the folders of PATH, in their order", () => {
  expect(find("exec:plug in", `${folder}/none:${folder}/bin`)).toBe(program);
});

test.each([
  ["exec:", "none"],
  [`exec:${folder}/none`, `${folder}/none, which does not exist`],
  [`exec:${folder}`, `${folder}, which is no file`],
  ["exec:none", "none, which is in no folder of PATH"],
  ["exec:bin", `${folder}/bin, which is no file`],
])("refuses %j", (url, got) => {
  expect(() => find(url, folder)).toThrow(
    `Cannot run upstream plug: its URL must be exec: and a program, got ${got}`,
  );
});

test("a file that may not be run is refused, unless a later one of that name may", () => {
  expect(() => find("exec:document", folder)).toThrow(`got ${document}, which is not executable`);
  writeFileSync(join(folder, "bin", "document"), "", { mode: 0o755 });
  expect(find("exec:document", `${folder}:${folder}/bin`)).toBe(join(folder, "bin", "document"));
});
