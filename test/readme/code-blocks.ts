/** A fenced block of code in a Markdown text. */
export interface CodeBlock {
  /** The last heading before it. */
  readonly heading: string;
  /** What stands after the fence: `sh`, `sql`; empty if nothing does. */
  readonly language: string;
  readonly text: string;
}

export function readCodeBlocks(markdown: string): readonly CodeBlock[] {
  const blocks: CodeBlock[] = [];
  let heading = "";
  for (const [, title, language = "", text] of markdown.matchAll(
    /^(?:#+ (.*)|```(\w*)\n([\s\S]*?)\n```)$/gm,
  )) {
    if (text === undefined) heading = title ?? "";
    else blocks.push({ heading, language, text });
  }
  return blocks;
}

/** The commands of a block, word for word: one that goes on after a backslash is one, comments of their own are none. */
export function commandsOf(block: CodeBlock): readonly string[] {
  return block.text
    .split(/(?<!\\)\n/)
    .map((command) => command.trim())
    .filter((command) => command !== "" && !command.startsWith("#"));
}
