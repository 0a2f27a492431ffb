import { lstat, readlink } from "node:fs/promises";
import { join, parse, resolve, sep } from "node:path";
import type { Places } from "./watch-directories.ts";

/** As many as Linux itself follows. */
const linksMax = 40;

/**
 * The directories in which something happens when the file or directory at `path` is replaced, and to which names: its
 * own, that of every symbolic link on the way to it, and itself, with all that is in it, if it is one. If it does not
 * exist: where it would have to be created. Each of them exists. Never rejects.
 *
 * In Kubernetes, `/etc/flags/flags.pb` is a link to `..data/flags.pb`, and `..data` a link that is replaced: it is
 * `/etc/flags` that changes, while the file's real directory only disappears later.
 */
export async function directoriesBehind(path: string): Promise<Places> {
  const found: Found = new Map();
  await follow(split(resolve(path)), linksMax, found);
  return found;
}

type Found = Map<string, Set<string> | undefined>;

function add(found: Found, directory: string, name: string): void {
  if (found.has(directory)) found.get(directory)?.add(name);
  else found.set(directory, new Set([name]));
}

interface Way {
  /** A directory that is no link, nor reached through one. */
  readonly at: string;
  readonly ahead: readonly string[];
}

async function follow({ at, ahead }: Way, linksLeft: number, found: Found): Promise<void> {
  const [name, ...rest] = ahead;
  if (name === undefined) return;
  const next = join(at, name);
  const info = await lstat(next).catch(() => undefined);
  const isLast = rest.length === 0;
  if (info === undefined || info.isSymbolicLink() || isLast) add(found, at, name);
  if (info?.isDirectory() && isLast) found.set(next, undefined);
  if (info?.isDirectory() && !isLast) await follow({ at: next, ahead: rest }, linksLeft, found);
  if (info?.isSymbolicLink() && linksLeft > 0) {
    const target = split(resolve(at, await readlink(next).catch(() => next)));
    await follow({ at: target.at, ahead: [...target.ahead, ...rest] }, linksLeft - 1, found);
  }
}

function split(path: string): Way {
  const { root } = parse(path);
  return { at: root, ahead: path.slice(root.length).split(sep).filter(Boolean) };
}
