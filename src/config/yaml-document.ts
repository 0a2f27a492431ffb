import { Composer, type Document, Lexer, LineCounter, type Node, Parser } from "yaml";

/** The one document of a YAML text, or what is wrong with it. */
export interface YamlDocument {
  /** Null if the text is empty or cannot be used. */
  readonly root: Node | null;
  readonly problems: readonly { readonly line: number; readonly message: string }[];
  /** The line, counted from one, in which a node begins. */
  lineOf(node: Node | null | undefined): number;
}

/** What is larger takes longer to read than a running daemon may pause. */
export const YAML_BYTES_MAX = 32_768;
const TOKENS_MAX = 6_000;

/** Reads one YAML document in bounded time. Never throws. Keys that occur twice are left to the caller. */
export function parseYamlDocument(text: string): YamlDocument {
  const lines = new LineCounter();
  const problems: { line: number; message: string }[] = [];
  const lineAt = (offset: number) => Math.max(1, lines.linePos(offset).line);
  const report = (offset: number, message: string) => problems.push({ line: lineAt(offset), message });
  const readRoot = (): Node | null => {
    const [first, second] = withoutStacks(() => composeDocuments(text, lines));
    for (const { pos, message } of [...(first?.errors ?? []), ...(first?.warnings ?? [])])
      report(pos[0], withoutQuotation(message));
    if (second !== undefined) report(second.range[0], 'expected one document, got another after "---"');
    return problems.length > 0 ? null : (first?.contents ?? null);
  };

  let root: Node | null = null;
  try {
    root = readRoot();
  } catch (error) {
    // The parser is not ours: what it stumbles over is the text's fault, and no reason to end.
    report(0, `cannot be read as YAML: ${error instanceof Error ? error.message : String(error)}`);
  }
  return { root, problems, lineOf: (node) => lineAt(node?.range?.[0] ?? 0) };
}

/** Stops after the second document, and before the text has cost too much. */
function composeDocuments(text: string, lines: LineCounter): readonly Document.Parsed[] {
  if (Buffer.byteLength(text) > YAML_BYTES_MAX)
    throw new Error(`expected at most ${YAML_BYTES_MAX} bytes, got more`);
  const parser = new Parser(lines.addNewLine);
  lines.addNewLine(0);
  // The composer would find duplicate keys by comparing each key with all others.
  const composer = new Composer({ uniqueKeys: false, resolveKnownTags: false, logLevel: "silent" });
  const documents: Document.Parsed[] = [];
  let count = 0;
  for (const lexeme of new Lexer().lex(text)) {
    if (++count > TOKENS_MAX) throw new Error(`expected at most ${TOKENS_MAX} words and signs, got more`);
    for (const token of parser.next(lexeme)) documents.push(...composer.next(token));
    if (documents.length > 1) return documents;
  }
  for (const token of parser.end()) documents.push(...composer.next(token));
  documents.push(...composer.end(documents.length === 0, text.length));
  return documents;
}

/** What the parser quotes from the text may be part of a password. */
function withoutQuotation(message: string): string {
  return message.replace(/(?:: | (?=[\\%].)).*$/s, "");
}

/** Stack traces of the parser's errors would cost ten times what parsing does. */
function withoutStacks<T>(run: () => T): T {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    return run();
  } finally {
    Error.stackTraceLimit = limit;
  }
}
