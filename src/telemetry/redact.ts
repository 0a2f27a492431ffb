/** Stands where a secret stood. */
export const REDACTED = "[redacted]";

/** Names of fields, headers and settings whose values nobody should read in a log. */
const SECRET_NAME =
  /passw|passphrase|\bpwd\b|secret|token|api ?key|access ?key|private ?key|credential|authorization|cookie/i;

/** Whether what carries this name is to be kept out of logs. */
export function isSecretName(name: string): boolean {
  // So that `apiKey`, `x-api-key` and `DB_PWD` are seen as the words they are made of.
  return SECRET_NAME.test(name.replaceAll(/([a-z0-9])([A-Z])/g, "$1 $2").replaceAll(/[._-]/g, " "));
}

/** What a secret looks like where it stands in a text, and what to put there. */
type Shape = readonly [RegExp, string];

const PRIVATE_KEY: Shape = [
  /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]{0,40}PRIVATE KEY-----|$)/g,
  REDACTED,
];

/** `scheme://user:password@host`. Up to the last @, because passwords may hold one that nobody encoded. */
const URL_PASSWORD: Shape = [
  /\b([a-z][a-z0-9+.-]{0,20}:\/\/[^\s/:@"'<>]{0,256}):[^\s"'<>]{0,1024}@/gi,
  `$1:${REDACTED}@`,
];

/** `https://token@host`. In other schemes a lone name is a user's. */
const URL_TOKEN: Shape = [/\b((?:https?|grpcs?):\/\/)[^\s/:@"'<>]{1,1024}@/gi, `$1${REDACTED}@`];

/** The value of an authorization header, with the header's name or without. */
const AUTHORIZATION: Shape = [/\b(bearer|basic|digest)(\s+)[a-z0-9._~+/=-]{6,}/gi, `$1$2${REDACTED}`];

/** `password=…`, `"token": "…"`, `x-api-key: …`, quoted once or twice. */
const NAMED_SECRET: Shape = [
  new RegExp(
    String.raw`((?:passw(?:or)?d|passphrase|\bpwd|secret|token|api[-_]?key|access[-_]?key|authorization|cookie)` +
      String.raw`(?:\\*["'])?\s{0,8}[=:]\s{0,8})` +
      String.raw`(?:\\+"[^"]*"|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?!bearer|basic|digest)[^\s"'[]+)`,
    "gi",
  ),
  `$1${REDACTED}`,
];

const JSON_WEB_TOKEN: Shape = [/\beyJ[\w-]{6,512}\.[\w-]+\.[\w-]*/g, REDACTED];

/** In an order in which no shape hides another from being seen. */
const SHAPES = [PRIVATE_KEY, URL_PASSWORD, URL_TOKEN, AUTHORIZATION, NAMED_SECRET, JSON_WEB_TOKEN];

/**
 * The text without the secrets that can be told by their shape. Where it is ambiguous how far one
 * reaches, too much is taken out rather than too little.
 */
export function redact(text: string): string {
  return SHAPES.reduce((clean, [shape, instead]) => clean.replaceAll(shape, instead), text);
}
