/** Made when first needed: it takes longer than a quick command does otherwise. */
let segmenter: Intl.Segmenter | undefined;

/** Characters that take two columns of a terminal. */
const WIDE =
  /[\u1100-\u115F\u2E80-\u303E\u3041-\uA4CF\uAC00-\uD7A3\uF900-\uFAFF\uFE30-\uFE6F\uFF00-\uFF60\uFFE0-\uFFE6]|\p{Emoji_Presentation}/u;

/** How many columns of a terminal a text takes, near enough for a table. */
export function widthOf(text: string): number {
  if (isPlain(text)) return text.length;
  return Array.from(graphemesOf(text), ({ segment }) => widthOfCharacter(segment)).reduce((a, b) => a + b, 0);
}

/** The text in at most `width` columns; `…` marks what was cut off. */
export function truncate(text: string, width: number): string {
  if (isPlain(text)) return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
  if (widthOf(text) <= width) return text;
  let start = "";
  let taken = 1;
  for (const { segment } of graphemesOf(text)) {
    taken += widthOfCharacter(segment);
    if (taken > width) break;
    start += segment;
  }
  return `${start}…`;
}

/** Shows control characters, and those that turn the direction of writing, instead of obeying them. */
export function toPrintable(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028\u2029\u202A-\u202E\u2066-\u2069]/gu, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\t") return "\\t";
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

function graphemesOf(text: string): Intl.Segments {
  segmenter ??= new Intl.Segmenter("en", { granularity: "grapheme" });
  return segmenter.segment(text);
}

function isPlain(text: string): boolean {
  return /^[\u0020-\u007E]*$/.test(text);
}

function widthOfCharacter(character: string): number {
  return WIDE.test(character) ? 2 : 1;
}
