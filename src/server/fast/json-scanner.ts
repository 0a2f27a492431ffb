const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** What is less is a control character, which a text in JSON may not hold. */
const SPACE = 0x20;
/** Half a surrogate pair, which an escape can smuggle in, cannot be repeated in an answer. */
const HALF_A_PAIR = /\p{Surrogate}/u;

/** Reads JSON of texts and lists of texts, token by token. Each step is over white space and what it asks for. */
export class JsonScanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** How many characters have been read. */
  get at(): number {
    return this.#at;
  }

  /** Whether this character comes next; steps over it if so. */
  takes(character: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  /** The text that comes next. Undefined if something else does. */
  text(): string | undefined {
    if (!this.takes('"')) return undefined;
    const start = this.#at;
    let hasEscapes = false;
    for (let at = start; at < this.#text.length; at++) {
      const code = this.#text.charCodeAt(at);
      if (code === QUOTE) {
        this.#at = at + 1;
        const raw = this.#text.slice(start, at);
        return hasEscapes ? unescape(raw) : raw;
      }
      if (code < SPACE) return undefined;
      if (code !== BACKSLASH) continue;
      hasEscapes = true;
      at += 1;
    }
    return undefined;
  }

  /** The texts of the list that comes next. Undefined if something else does. */
  texts(): readonly string[] | undefined {
    if (!this.takes("[")) return undefined;
    const texts: string[] = [];
    if (this.takes("]")) return texts;
    do {
      const text = this.text();
      if (text === undefined) return undefined;
      texts.push(text);
    } while (this.takes(","));
    return this.takes("]") ? texts : undefined;
  }

  /** Whether nothing follows. */
  get isAtEnd(): boolean {
    this.#skipSpace();
    return this.#at === this.#text.length;
  }

  #skipSpace(): void {
    for (; this.#at < this.#text.length; this.#at++) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== SPACE && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
    }
  }
}

function unescape(raw: string): string | undefined {
  try {
    const text: unknown = JSON.parse(`"${raw}"`);
    return typeof text === "string" && !HALF_A_PAIR.test(text) ? text : undefined;
  } catch {
    return undefined;
  }
}
