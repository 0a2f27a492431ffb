import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

const root = new URL("../..", import.meta.url).pathname;

test("every link between our own pages leads somewhere, headings included", async () => {
  const broken: string[] = [];
  let count = 0;
  for (const page of await pages()) {
    const text = await readFile(join(root, page), "utf8");
    for (const target of linksOf(text)) {
      count += 1;
      const [path = "", anchor] = target.split("#");
      const file = path === "" ? page : join(dirname(page), decodeURI(path));
      if (!existsSync(join(root, file))) broken.push(`${page} links to ${target}: no such file`);
      else if (anchor !== undefined && file.endsWith(".md") && !(await anchorsOf(file)).includes(anchor)) {
        broken.push(`${page} links to ${target}: no such heading`);
      }
    }
  }
  expect(broken).toEqual([]);
  expect(count).toBeGreaterThan(10);
});

async function pages(): Promise<readonly string[]> {
  const folders = ["docs", "examples", "config", "deploy", "bench", "test"].filter((name) =>
    existsSync(join(root, name)),
  );
  const inFolders = await Promise.all(
    folders.map(async (folder) =>
      (await readdir(join(root, folder), { recursive: true })).map((name) => join(folder, name)),
    ),
  );
  return [...(await readdir(root)), ...inFolders.flat()].filter((name) => name.endsWith(".md"));
}

/** Of those to elsewhere we cannot tell: tests have no network. */
function linksOf(markdown: string): readonly string[] {
  return [...withoutCode(markdown).matchAll(/\]\(([^()\s]+)\)/g)]
    .map(([, target = ""]) => target)
    .filter((target) => !/^[a-z]+:/.test(target));
}

function withoutCode(markdown: string): string {
  return markdown.replaceAll(/^```[\s\S]*?^```$/gm, "").replaceAll(/(?<!\[)`[^`\n]*`(?!\])/g, "");
}

/** The names that a page's headings get where it is shown. */
async function anchorsOf(page: string): Promise<readonly string[]> {
  const text = await readFile(join(root, page), "utf8");
  return [...withoutFences(text).matchAll(/^#+ +(.*?) *$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

function withoutFences(markdown: string): string {
  return markdown.replaceAll(/^```[\s\S]*?^```$/gm, "");
}
