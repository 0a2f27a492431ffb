import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ConfigError } from "./config-error.ts";
import { createConfigSource, loadConfig } from "./load-config.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-config-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

test("--config names the file, else PBFLAGS_CONFIG does", async () => {
  const one = await write("one.yaml", "listen: :1");
  const two = await write("two.yaml", "listen: :2");
  const env = { PBFLAGS_CONFIG: two };
  expect((await loadConfig({ args: { "--config": one }, env }, "tool")).config.listen).toMatchObject({
    port: 1,
  });
  expect((await loadConfig({ args: {}, env }, "tool")).config.listen).toMatchObject({ port: 2 });
  expect((await loadConfig({ args: {}, env: { PBFLAGS_CONFIG: "" } }, "tool")).config.listen).toMatchObject({
    port: 9201,
  });
});

test("a file that cannot be read is an error that names it, and who named it", async () => {
  const latin = await write("latin.yaml", Uint8Array.of(0x61, 0x3a, 0x20, 0xe9));
  const large = await write("large.yaml", "#".repeat(10_000_000));
  const problems: string[] = [];
  for (const path of [join(folder, "none.yaml"), folder, latin, large, "a\0b", "/dev/zero"]) {
    const error: unknown = await loadConfig({ args: { "--config": path }, env: {} }, "tool").catch(
      (reason) => reason,
    );
    expect(error).toBeInstanceOf(ConfigError);
    if (error instanceof ConfigError)
      problems.push(...error.problems.map((problem) => problem.replaceAll(folder, "F")));
  }
  expect(problems.slice(0, 4)).toEqual([
    '--config: cannot read "F/none.yaml": no such file',
    '--config: cannot read "F": it is a directory',
    '--config: cannot read "F/latin.yaml": it is not UTF-8 text',
    "F/large.yaml:1: cannot be read as YAML: expected at most 32768 bytes, got more",
  ]);
  expect(problems[4]).toContain('--config: cannot read "a\\u0000b"');
  expect(problems[5]).toContain("at most 32768 bytes");
});

test("a source is loaded again from the same places, and tells where its file is", async () => {
  const path = await write("again.yaml", "listen: :1\nenv_name: one");
  const sources = { args: { "--listen": ":7" }, env: { PBFLAGS_CONFIG: path } };
  const source = createConfigSource(sources, "tool");
  expect(source.path).toBe(path);
  expect((await source.load()).config).toMatchObject({ listen: { port: 7 }, envName: "one" });
  await write("again.yaml", "listen: :1\nenv_name: two");
  expect((await source.load()).config).toMatchObject({ listen: { port: 7 }, envName: "two" });
  await rm(path);
  await expect(source.load()).rejects.toThrow(ConfigError);
  expect(createConfigSource({ args: {}, env: {} }, "tool").path).toBeUndefined();
});
