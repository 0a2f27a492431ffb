import { mkdir, mkdtemp, rename, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { describeFlags, type FlagSpec } from "../../test/support/descriptors.ts";
import { eventually } from "../../test/support/eventually.ts";
import { type Clock, systemClock } from "../system/clock.ts";
import { Latest } from "../system/latest.ts";
import type { FlagTable } from "./definition.ts";
import { parseDescriptors } from "./parse-descriptors.ts";
import { type DescriptorWatch, openDescriptorWatch, type ReloadResult } from "./watch-descriptors.ts";

const never = 3_600_000;

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-descriptors-"));
  path = join(folder, "flags.pb");
});
afterEach(() => rm(folder, { recursive: true }));

interface Watching extends AsyncDisposable {
  readonly watch: DescriptorWatch;
  readonly table: Latest<FlagTable>;
  readonly results: readonly ReloadResult[];
  /** Resolves with the result of that kind that comes after all that were awaited before. */
  next(kind: ReloadResult["kind"]): Promise<ReloadResult>;
}

/** A watch of `path` that has begun, with `bytes` in the file and in force. */
async function watching(bytes: Uint8Array, options: { clock?: Clock; retryMs?: number; path?: string } = {}) {
  if (options.path === undefined) await replace(bytes);
  const table = new Latest(parseDescriptors([{ name: path, bytes }]));
  const results: ReloadResult[] = [];
  let awaited = 0;
  const watch = openDescriptorWatch({
    path,
    table,
    clock: systemClock,
    pollMs: never,
    retryMs: 10,
    onReload: (result) => results.push(result),
    ...options,
  });
  const watched: Watching = {
    watch,
    table,
    results,
    async next(kind) {
      await eventually(() => results.length > awaited);
      const result = results[awaited] ?? { kind: "unchanged" };
      expect(result).toMatchObject({ kind });
      awaited += 1;
      return result;
    },
    [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose](),
  };
  await watched.next("unchanged");
  return watched;
}

async function replace(bytes: Uint8Array | string): Promise<void> {
  await writeFile(`${path}.new`, bytes);
  await rename(`${path}.new`, path);
}

const on: FlagSpec = { number: 1, name: "on", type: "BOOL", default: false };
const set = (...flags: readonly FlagSpec[]) => describeFlags([{ feature: "f", flags }]);
const flags = (count: number) =>
  set(...Array.from({ length: count }, (_, i) => ({ ...on, number: i + 1, name: `on_${i}` })));

describe("a changed file", () => {
  test("is taken up as a whole, and what changed is told", async () => {
    await using watched = await watching(set(on));
    const before = watched.table.value;
    await replace(set({ ...on, default: true }, { ...on, number: 2, name: "more" }));
    expect(await watched.next("replaced")).toMatchObject({
      comparison: { added: ["f/2"], removed: [], changed: [{ id: "f/1", what: ["default"] }] },
    });
    expect(watched.table.value).not.toBe(before);
    expect(before.find("f/2")).toBeUndefined();
    expect(watched.table.value.find("f/1")?.defaultValue?.value.value).toBe(true);
  });

  test("is taken up again and again, back and forth", async () => {
    await using watched = await watching(set(on));
    for (const value of [true, false, true, false]) {
      await replace(set({ ...on, default: value }));
      await watched.next("replaced");
      expect(watched.table.value.find("f/1")?.defaultValue?.value.value).toBe(value);
    }
  });

  test("changes nothing where it says the same", async () => {
    await using watched = await watching(set(on));
    const before = watched.table.value;
    await utimes(path, 0, 0);
    await watched.next("unchanged");
    expect(watched.table.value).toBe(before);
  });

  test("in a directory of several is merged with the others", async () => {
    await mkdir(join(folder, "..data"));
    await writeFile(join(folder, "..data/a.pb"), set(on));
    await symlink("..data/a.pb", join(folder, "a.pb"));
    await using watched = await watching(set(on), { path: folder });
    const other = describeFlags([{ feature: "g", flags: [on] }], { fileName: "g.proto" });
    await writeFile(join(folder, "g.tmp"), other);
    await rename(join(folder, "g.tmp"), join(folder, "g.pb"));
    await eventually(() => watched.table.value.find("g/1") !== undefined);
    expect(watched.table.value.find("f/1")).toBeDefined();
  });
});

describe("a file that cannot be used changes nothing, and says why:", () => {
  const cases: readonly (readonly [what: string, write: () => Promise<void>, reason: RegExp])[] = [
    [
      "no descriptors",
      () => replace("no descriptors"),
      /flags.pb: it must be a usable FileDescriptorSet, got /,
    ],
    ["cut off", () => replace(set(on).subarray(0, -1)), /got premature EOF/],
    ["empty", () => replace(""), /got an empty file/],
    ["removed", () => rm(path), /got no such file/],
    ["without flags", () => replace(set()), /flags.pb: it must define flags, got none where 1 are in force/],
    [
      "with a mistake",
      () => replace(set({ ...on, layer: "?" })),
      /flags.proto: Feature0.on: the layer must be /,
    ],
    [
      "with another type for a flag",
      () => replace(set({ ...on, type: "STRING", default: "no" })),
      /flags.pb: a flag must keep its type, got STRING for f\/1, which is BOOL/,
    ],
  ];

  test.for(cases)("%s", async ([, write, reason]) => {
    await using watched = await watching(set(on));
    const before = watched.table.value;
    await write();
    expect(await watched.next("rejected")).toEqual({
      kind: "rejected",
      reason: expect.stringMatching(reason),
    });
    expect(watched.table.value).toBe(before);
    expect(watched.watch.lastResult).toMatchObject({ kind: "rejected" });

    expect(await watched.watch.reload({ force: true })).toMatchObject({ kind: "rejected" });
    await watched.next("rejected");

    await replace(set(on));
    await watched.next("unchanged");
    expect(watched.watch.lastResult).toEqual({ kind: "unchanged" });
  });

  test("but a file that is whole a moment later is never reported as broken", async () => {
    const retryMs = 77;
    const whole = set({ ...on, default: true });
    // While the watch waits to try again, the writer gets done.
    const clock: Clock = {
      ...systemClock,
      sleep: (ms, signal) => (ms === retryMs ? writeFile(path, whole) : systemClock.sleep(ms, signal)),
    };
    await using watched = await watching(set(on), { clock, retryMs });
    await writeFile(path, whole.subarray(0, 50));
    await watched.next("replaced");
    expect(watched.table.value.find("f/1")?.defaultValue?.value.value).toBe(true);
    expect(watched.results.map(({ kind }) => kind)).not.toContain("rejected");
  });
});

describe("a set that lacks more than half of 20 or more flags", () => {
  test("is held until it is forced", async () => {
    await using watched = await watching(flags(20));
    await replace(flags(9));
    expect(await watched.next("held")).toEqual({
      kind: "held",
      reason: `${path}: it must keep at least half of the flags unless forced by a restart, got 11 of 20 removed`,
    });
    expect(watched.table.value.flags).toHaveLength(20);
    expect(await watched.watch.reload()).toMatchObject({ kind: "held" });
    await watched.next("held");

    expect(await watched.watch.reload({ force: true })).toMatchObject({ kind: "replaced" });
    expect(watched.table.value.flags).toHaveLength(9);
    expect(watched.watch.lastResult).toMatchObject({ kind: "replaced" });
  });
});

describe("reload()", () => {
  test("reads the file now, whether or not it seems to have changed", async () => {
    await using watched = await watching(set(on));
    expect(await watched.watch.reload()).toEqual({ kind: "unchanged" });
  });

  test("asked for many times at once is done one at a time, and no more often than needed", async () => {
    await using watched = await watching(flags(20));
    const reloads = Array.from({ length: 100 }, (_, i) => watched.watch.reload({ force: i % 2 === 0 }));
    expect(await Promise.all(reloads)).toEqual(Array.from({ length: 100 }, () => ({ kind: "unchanged" })));
    expect(watched.results).toHaveLength(3);
  });

  test("still gives an answer while the watch is being closed", async () => {
    const watched = await watching(set(on));
    const reload = watched.watch.reload();
    await watched[Symbol.asyncDispose]();
    expect(await reload).toEqual({ kind: "unchanged" });
  });
});
