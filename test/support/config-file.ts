import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How a file gets other content. `swapped`: as Kubernetes does it, behind two symbolic links. */
export type Edit = "replaced" | "written in place" | "swapped";

/** A configuration file that a test edits. Text is written as it is, and anything else as JSON, which is YAML too. */
export interface ConfigFile extends AsyncDisposable {
  readonly path: string;
  edit(content: unknown): Promise<void>;
  remove(): Promise<void>;
}

export async function openConfigFile(content: unknown, how: Edit = "replaced"): Promise<ConfigFile> {
  const folder = await mkdtemp(join(tmpdir(), "pbflagd-config-"));
  const path = join(folder, "pbflagd.yaml");
  let edits = 0;

  async function swap(text: string): Promise<void> {
    edits += 1;
    await mkdir(join(folder, `..${edits}`));
    await writeFile(join(folder, `..${edits}`, "pbflagd.yaml"), text);
    await symlink(`..${edits}`, join(folder, "..data_tmp"));
    await rename(join(folder, "..data_tmp"), join(folder, "..data"));
    await rm(join(folder, `..${edits - 1}`), { recursive: true, force: true });
  }

  async function edit(next: unknown): Promise<void> {
    const text = typeof next === "string" ? next : JSON.stringify(next, undefined, 2);
    if (how === "swapped") return swap(text);
    if (how === "written in place") return writeFile(path, text);
    await writeFile(`${path}.new`, text);
    await rename(`${path}.new`, path);
  }

  if (how === "swapped") await symlink("..data/pbflagd.yaml", path);
  await edit(content);
  return {
    path,
    edit,
    remove: () => rm(path),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}
