import {
  appendFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../../test/support/eventually.ts";
import { systemClock } from "./clock.ts";
import { type FileWatchOptions, watchFile } from "./watch-file.ts";

const never = 3_600_000;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-watch-"));
});
afterEach(() => rm(folder, { recursive: true }));

/** Watches `path` and remembers what stood there at each change; of a directory, the names in it. */
function watching(path: string, options: Partial<FileWatchOptions> = {}) {
  const seen: string[] = [];
  const watch = watchFile({
    path: join(folder, path),
    clock: systemClock,
    pollMs: never,
    settleMs: 20,
    onChange: async () => {
      seen.push(await contentOf(join(folder, path)));
    },
    ...options,
  });
  return {
    seen,
    async sees(content: string): Promise<void> {
      await eventually(() => seen.at(-1) === content, {
        what: `${JSON.stringify(seen)} ends with ${content}`,
      });
    },
    [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose](),
  };
}

async function contentOf(path: string): Promise<string> {
  const names = await readdir(path).catch(() => undefined);
  return names?.toSorted().join() ?? readFile(path, "utf8").catch(() => "nothing");
}

/** How a file may change; each way must be noticed again and again, so each is gone three times. */
interface Way {
  readonly what: string;
  readonly watched?: string;
  readonly begin?: () => Promise<unknown>;
  readonly change: (content: string, round: number) => Promise<unknown>;
}

const inFolder = (...names: readonly string[]) => join(folder, ...names);

async function replace(path: string, content: string): Promise<void> {
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
}

async function relink(path: string, target: string): Promise<void> {
  await symlink(target, `${path}.new`);
  await rename(`${path}.new`, path);
}

const ways: readonly Way[] = [
  { what: "written in place", change: (content) => writeFile(inFolder("flags.pb"), content) },
  { what: "replaced by rename", change: (content) => replace(inFolder("flags.pb"), content) },
  {
    what: "deleted and made anew",
    change: async (content) => {
      await rm(inFolder("flags.pb"), { force: true });
      await writeFile(inFolder("flags.pb"), content);
    },
  },
  {
    what: "swapped by Kubernetes behind ..data",
    begin: async () => {
      await mkdir(inFolder("..0"));
      await writeFile(inFolder("..0", "flags.pb"), "old");
      await symlink("..0", inFolder("..data"));
      await symlink("..data/flags.pb", inFolder("flags.pb"));
    },
    change: async (content, round) => {
      await mkdir(inFolder(`..${round}`));
      await writeFile(inFolder(`..${round}`, "flags.pb"), content);
      await relink(inFolder("..data"), `..${round}`);
      await rm(inFolder(`..${round - 1}`), { recursive: true });
    },
  },
  {
    what: "replaced where a link leads to",
    begin: async () => {
      await mkdir(inFolder("real"));
      await writeFile(inFolder("real", "set"), "old");
      await symlink("real/set", inFolder("flags.pb"));
    },
    change: (content) => replace(inFolder("real", "set"), content),
  },
  {
    what: "a link that is led elsewhere",
    begin: async () => {
      await writeFile(inFolder("0"), "old");
      await symlink("0", inFolder("flags.pb"));
    },
    change: async (content, round) => {
      await writeFile(inFolder(`${round}`), content);
      await relink(inFolder("flags.pb"), `${round}`);
    },
  },
  {
    what: "in a directory that is removed and made anew",
    watched: "etc/flags.pb",
    change: async (content) => {
      await rm(inFolder("etc"), { recursive: true, force: true });
      await mkdir(inFolder("etc"));
      await writeFile(inFolder("etc/flags.pb"), content);
    },
  },
  {
    what: "in a directory that another takes the place of",
    watched: "etc/flags.pb",
    begin: () => mkdir(inFolder("etc")),
    change: async (content, round) => {
      await mkdir(inFolder("next"));
      await writeFile(inFolder("next/flags.pb"), content);
      await rename(inFolder("etc"), inFolder(`old-${round}`));
      await rename(inFolder("next"), inFolder("etc"));
    },
  },
  {
    what: "a directory that gets files",
    watched: "flags",
    begin: () => mkdir(inFolder("flags")),
    change: async (content) => {
      await rm(inFolder("flags"), { recursive: true });
      await mkdir(inFolder("flags"));
      await writeFile(inFolder("flags", content), "");
    },
  },
];

describe("watchFile() notices by the operating system's word a file that is", () => {
  test.for(ways)("$what", async ({ watched = "flags.pb", begin, change }) => {
    await begin?.();
    await using watch = watching(watched);
    await eventually(() => watch.seen.length > 0);
    for (const round of [1, 2, 3]) {
      await change(`content-${round}`, round);
      await watch.sees(`content-${round}`);
    }
    expect(new Set(watch.seen.filter((content) => content.startsWith("content"))).size).toBe(3);
  });
});

test("watchFile() begins after what it waits for, sees what has changed until then, and ends while it waits", async () => {
  await writeFile(join(folder, "file"), "one");
  const begun = new AbortController();
  await using watch = watching("file", { startsAfter: () => aborted(begun.signal) });
  await writeFile(join(folder, "file"), "two");
  expect(watch.seen).toEqual([]);
  begun.abort();
  await watch.sees("two");
  expect(watch.seen).toEqual(["two"]);

  const waiting = watching("file", { startsAfter: aborted });
  await waiting[Symbol.asyncDispose]();
  expect(waiting.seen).toEqual([]);
});

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
}

test("watchFile() calls once when it begins, whether or not the file exists", async () => {
  await using watch = watching("flags.pb");
  await watch.sees("nothing");
  await writeFile(inFolder("flags.pb"), "new");
  await watch.sees("new");
  expect(watch.seen).toEqual(["nothing", "new"]);
});

test("watchFile() notices files that come, change and go in a directory", async () => {
  await using watch = watching(".");
  await watch.sees("");
  await writeFile(inFolder("a.pb"), "");
  await watch.sees("a.pb");
  await writeFile(inFolder("b.pb"), "");
  await watch.sees("a.pb,b.pb");
  await rm(inFolder("a.pb"));
  await watch.sees("b.pb");
  const calls = watch.seen.length;
  await writeFile(inFolder("b.pb"), "more");
  await eventually(() => watch.seen.length > calls);
  expect(watch.seen.at(-1)).toBe("b.pb");
});

test("watchFile() waits until a file that is being written stands still", async () => {
  await using watch = watching("flags.pb", { settleMs: 500 });
  await watch.sees("nothing");
  for (let i = 0; i < 100; i++) await appendFile(inFolder("flags.pb"), "x");
  await watch.sees("x".repeat(100));
  expect(watch.seen).toEqual(["nothing", "x".repeat(100)]);
});

test("watchFile() never calls twice at a time, and sees the last change all the same", async () => {
  let running = 0;
  let runningMost = 0;
  let last = "";
  const onChange = async () => {
    running += 1;
    runningMost = Math.max(runningMost, running);
    for (let i = 0; i < 20; i++) last = await contentOf(inFolder("flags.pb"));
    running -= 1;
  };
  const watch = watching("flags.pb", { onChange });
  for (let i = 0; i < 50; i++) await replace(inFolder("flags.pb"), `content-${i}`);
  await eventually(() => last === "content-49" && running === 0);
  await watch[Symbol.asyncDispose]();
  expect(runningMost).toBe(1);
});

describe("where the operating system cannot watch, watchFile()", () => {
  const deaf = (errors: unknown[]): Partial<FileWatchOptions> => ({
    pollMs: 10,
    onWatchError: (error) => errors.push(error),
    watchDirectories: (_, { onError }) => {
      onError(new Error("no more watches"));
      return { [Symbol.asyncDispose]: () => Promise.resolve() };
    },
  });

  test("says so, and polls", async () => {
    const errors: unknown[] = [];
    await using watch = watching("flags.pb", deaf(errors));
    await watch.sees("nothing");
    for (const content of ["one", "two", "six"]) {
      await replace(inFolder("flags.pb"), content);
      await watch.sees(content);
    }
    expect(errors).toEqual([new Error("no more watches")]);
  });
});

test("watchFile() is silent once it is disposed of", async () => {
  const watch = watching("flags.pb");
  await watch.sees("nothing");
  await watch[Symbol.asyncDispose]();
  await writeFile(inFolder("flags.pb"), "new");
  await using other = watching("flags.pb");
  await other.sees("new");
  expect(watch.seen).toEqual(["nothing"]);
});
