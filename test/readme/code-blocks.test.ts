import { expect, test } from "vitest";
import { commandsOf, readCodeBlocks } from "./code-blocks.ts";

const markdown = `# Title

\`\`\`sh
first
# not a command
second \\
  goes on   # remark

third
\`\`\`

## Part

Text with \`code\`.

\`\`\`
picture
\`\`\`
`;

test("finds each block under its heading", () => {
  expect(readCodeBlocks(markdown).map(({ heading, language }) => [heading, language])).toEqual([
    ["Title", "sh"],
    ["Part", ""],
  ]);
});

test("takes commands apart, word for word", () => {
  const [block] = readCodeBlocks(markdown);
  if (block === undefined) throw new Error("expected a block, got none");
  expect(commandsOf(block)).toEqual(["first", "second \\\n  goes on   # remark", "third"]);
});
