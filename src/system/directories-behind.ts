import { lstat, readlink } from "node:fs/promises";
import { join, parse, resolve, sep } from "node:path";

/** As many as Linux itself follows. */
const linksMax = 40;

/**
 * The directories in which something happens when the file or directory at `path` is replaced: its own, that of every
 * symbolic link on the way to it, and itself if it is one. If it does not exist: where it would have to be created.
 * Each of them exists. Never rejects.
 *
 * In Kubernetes, `/etc/flags/flags.pb` is a link to `..data/flags.pb`, and `..data` a link that is replaced: it is
 * `/etc/flags` that changes, while the file's real directory only disappears later.
 */
export async function directoriesBehind(path: string): Promise<readonly string[]> {
  const found = new Set<string>();
  await follow(split(resolve(path)), linksMax, found);
  return [...found];
}

interface Way {
  /** A directory that is no link, nor reached through one. */
  readonly at: string;
  readonly ahead: readonly string[];
}

async function follow({ at, ahead }: Way, linksLeft: number, found: Set<string>): Promise<void> {
  const [name, ...rest] = ahead;
  if (name === undefined) return;
  const next = join(at, name);
  const info = await lstat(next).catch(() => undefined);
  const isLast = rest.length === 0;
  if (info === undefined || info.isSymbolicLink() || isLast) found.add(at);
  if (info?.isDirectory() && isLast) found.add(next);
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
