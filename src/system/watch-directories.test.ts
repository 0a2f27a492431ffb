import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../../test/support/eventually.ts";
import { watchDirectories } from "./watch-directories.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-directories-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Watches the folder, and counts what is told beyond the beginning. */
function watching(names: ReadonlySet<string> | undefined) {
  let count = -1;
  const errors: unknown[] = [];
  const watch = watchDirectories(new Map([[folder, names]]), {
    onEvent: () => {
      count += 1;
    },
    onError: (error) => errors.push(error),
  });
  return { count: () => count, errors, [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose]() };
}

test("what happens to others in a directory is not told", async () => {
  await using all = watching(undefined);
  await using one = watching(new Set(["flags.pb"]));
  for (let i = 0; i < 20; i++) await writeFile(join(folder, "some.log"), `${i}`);
  await eventually(() => all.count() >= 20);
  expect(one.count()).toBe(0);
  await writeFile(join(folder, "flags.pb"), "new");
  await eventually(() => one.count() > 0);
});

test("the end of the directory itself is told", async () => {
  await using one = watching(new Set(["flags.pb"]));
  await rm(folder, { recursive: true });
  await eventually(() => one.count() > 0);
  expect(one.errors).toEqual([]);
});

test("a directory that cannot be watched is an error, and the others are watched", async () => {
  const errors: unknown[] = [];
  let count = -1;
  const places = new Map([
    [join(folder, "nowhere"), undefined],
    [folder, undefined],
  ]);
  const listener = { onEvent: () => void (count += 1), onError: (error: unknown) => errors.push(error) };
  await using _ = watchDirectories(places, listener);
  await writeFile(join(folder, "flags.pb"), "new");
  await eventually(() => count > 0);
  expect(errors).toMatchObject([{ code: "ENOENT" }]);
});
