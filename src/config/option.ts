import { type Address, parseAddress } from "./address.ts";
import { parseEvaluatorUrl } from "./evaluator-url.ts";
import { parseBytes, parseCount, parseDecimal, parseDuration, parseInteger } from "./quantity.ts";

/** What the texts of a setting may look like, whichever place they come from. */
export interface Kind<T, Suffix extends string = ""> {
  /** Undefined if the text is not of this kind. */
  readonly parse: (text: string) => { readonly value: T } | undefined;
  /** Ends the sentence "expected …". */
  readonly expects: string;
  /** Stands for the value in `--help`. */
  readonly placeholder: string;
  /** What the value's unit adds to the setting's name in `Config`: milliseconds end in `Ms`. */
  readonly suffix: Suffix;
  /** May hold a password: `mask` hides it wherever the text is shown. */
  readonly secret?: boolean;
}

interface Range {
  readonly min: string;
  readonly max: string;
}

/** A duration as in Go, as milliseconds. */
export function duration(range: Range): Kind<number, "Ms"> {
  return {
    parse: inRange(parseDuration, range),
    expects: `a duration such as "30s", from ${range.min} to ${range.max}`,
    placeholder: "duration",
    suffix: "Ms",
  };
}

export function count(range: Range): Kind<number> {
  return {
    parse: inRange(parseCount, range),
    expects: `a whole number from ${range.min} to ${range.max}`,
    placeholder: "number",
    suffix: "",
  };
}

export function bytes(range: Range): Kind<number> {
  return {
    parse: inRange(parseBytes, range),
    expects: `a size such as "16KiB", from ${range.min} to ${range.max}`,
    placeholder: "size",
    suffix: "",
  };
}

/** A whole number that may be below zero. */
export function integer(range: Range): Kind<number> {
  return { ...count(range), parse: inRange(parseInteger, range) };
}

export function decimal(range: Range): Kind<number> {
  return {
    ...count(range),
    parse: inRange(parseDecimal, range),
    expects: `a number such as "1.5", from ${range.min} to ${range.max}`,
  };
}

export const percent: Kind<number> = {
  ...count({ min: "0", max: "100" }),
  expects: "a percentage, a whole number from 0 to 100",
  placeholder: "percent",
};

export const boolean: Kind<boolean> = choose("true or false", "true|false", (text) =>
  text === "true" || text === "false" ? { value: text === "true" } : undefined,
);

export const path: Kind<string> = choose("a path", "path", (text) =>
  text !== "" && text.length <= 4_096 && !text.includes("\0") ? { value: text } : undefined,
);

export const text: Kind<string> = choose("a text of 1 to 100 printable characters", "text", (given) =>
  /^[^\p{Cc}]{1,100}$/u.test(given) ? { value: given } : undefined,
);

export const color: Kind<string> = choose('a colour such as "#c0392b" or "orange"', "colour", (given) =>
  /^(?:#(?:[0-9a-fA-F]{3}){1,2}|[a-z]{3,30})$/.test(given) ? { value: given } : undefined,
);

export const address: Kind<Address> = choose(
  'an address such as "localhost:9201", ":9201" or "unix:///path"',
  "address",
  (given) => {
    const value = parseAddress(given);
    return value === undefined ? undefined : { value };
  },
);

export const postgresUrl: Kind<string> = {
  ...url(["postgres:", "postgresql:"], 'a URL such as "postgres://user@host:5432/database"'),
  secret: true,
};

export const evaluatorUrl: Kind<string> = {
  ...choose(
    'a URL such as "http://host:9201", "grpcs://host:9201", "unix:///path" or "exec:/program"',
    "url",
    (given) => (parseEvaluatorUrl(given) === undefined ? undefined : { value: given }),
  ),
  secret: true,
};

/** A text that `pattern` matches from end to end. */
export function matching(pattern: RegExp, expects: string): Kind<string> {
  return choose(expects, "text", (given) => (pattern.test(given) ? { value: given } : undefined));
}

export function choice<const T extends string>(words: readonly T[]): Kind<T> {
  return choose(words.map((word) => `"${word}"`).join(" or "), words.join("|"), (given) => {
    const value = words.find((word) => word === given);
    return value === undefined ? undefined : { value };
  });
}

/** The word, or else what `kind` reads. */
export function or<const W extends string, T>(word: W, kind: Kind<T>): Kind<W | T> {
  return {
    ...kind,
    parse: (given) => (given === word ? { value: word } : kind.parse(given)),
    expects: `${kind.expects}, or "${word}"`,
  };
}

/** The duration zero, or else what `kind` reads. */
export function orZero(kind: Kind<number, "Ms">): Kind<number, "Ms"> {
  return {
    ...kind,
    parse: (given) => (parseDuration(given) === 0 ? { value: 0 } : kind.parse(given)),
    expects: `${kind.expects}, or 0`,
  };
}

/** What `kind` reads, or `off`, read as undefined. */
export function orOff<T>(kind: Kind<T>): Kind<T | undefined> {
  return {
    ...kind,
    parse: (given) => (given === "off" ? { value: undefined } : kind.parse(given)),
    expects: `${kind.expects}, or "off"`,
  };
}

/** Hides what may be a password in a text that is, or should have been, a URL. */
export function mask(given: string): string {
  return (
    given
      .replace(/^([^:/@]*:?\/\/)?([^:/@]*):.*@/s, "$1$2:***@")
      // To an evaluator, a lone name may be a token.
      .replace(/^((?:http|grpc)s?:\/\/)[^:]*@/, "$1***@")
      // Cut off before its host: what stands there is no port.
      .replace(/^(?!https?:|grpcs?:)([a-z+]+:\/\/[^:/@]+):(?!\d+(?:[/?]|$))[^@]+$/is, "$1:***")
      .replace(/^([a-z+]+:\/\/[^#]*)#.+$/is, "$1#***")
      .replace(/^(basic|bearer)\s+\S.*$/is, "$1 ***")
      .replaceAll(/(password|sslkey|token|secret)([=:])[^&\s]*/gi, "$1$2***")
  );
}

function choose<T>(expects: string, placeholder: string, parse: Kind<T>["parse"]): Kind<T> {
  return { parse, expects, placeholder, suffix: "" };
}

function url(protocols: readonly string[], expects: string): Kind<string> {
  return choose(expects, "url", (given) => {
    const parsed = URL.canParse(given) ? new URL(given) : undefined;
    const named = protocols.some((protocol) => given.startsWith(`${protocol}//`));
    return parsed !== undefined && named ? { value: given } : undefined;
  });
}

function inRange(parse: (given: string) => number | undefined, range: Range): Kind<number>["parse"] {
  const min = parse(range.min) ?? Number.NaN;
  const max = parse(range.max) ?? Number.NaN;
  return (given) => {
    const value = parse(given);
    return value !== undefined && value >= min && value <= max ? { value } : undefined;
  };
}
