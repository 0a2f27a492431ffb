import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

/**
 * A text that changes whenever the file at `path` does, however that comes about: written, replaced, removed, linked to
 * another. Of a directory: whenever one of its files does. It takes no look into the files. Never rejects.
 */
export async function filePrint(path: string): Promise<string> {
  const names = await readdir(path).catch(() => undefined);
  if (names === undefined) return statPrint(path);
  const prints = await Promise.all(
    names.toSorted().map(async (name) => `${name} ${await statPrint(join(path, name))}`),
  );
  return ["directory", ...prints].join("\n");
}

/** The time of the last change of the inode is there because a copy may keep size and modification time. */
async function statPrint(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : "unreadable";
  }
}
