/** What we show others to tell who is asking. */
export interface Secrets {
  /** Values of headers, sent with each call. */
  readonly headers: readonly string[];
  /** `user:password` of the URL, sent or not. */
  readonly credentials: string | undefined;
}

/**
 * What others say as a message may have it. Some servers, and proxies on the way, repeat in their errors what they were sent:
 * our secrets become `***`. No more is kept than `charactersMax`.
 */
export function hideSecrets(
  { headers, credentials }: Secrets,
  charactersMax: number,
): (text: string) => string {
  const secrets = headers.flatMap(secretsOfHeader);
  if (credentials !== undefined) secrets.push(...partsOf(credentials));
  const forms = formsOf(secrets);
  if (forms.length === 0) return (text) => text.slice(0, charactersMax);
  const pattern = new RegExp(forms.map(escapeForRegExp).join("|"), "gi");
  const longest = Math.max(...forms.map(({ length }) => length));
  // Megabytes are not searched. Where they are cut half a secret may stand, that nothing knows for one.
  const seenMax = charactersMax + 2 * longest;
  return (text) => {
    const clean = text.slice(0, seenMax).replaceAll(pattern, "***");
    const end = text.length > seenMax ? Math.max(0, clean.length - longest) : clean.length;
    return clean.slice(0, Math.min(end, charactersMax));
  };
}

/** `Bearer` is none, but what stands behind it is one by itself. */
function secretsOfHeader(value: string): readonly string[] {
  const [, scheme = "", rest] = /^(\S+) +(.+)$/.exec(value) ?? [];
  if (rest === undefined) return [value];
  if (!/^basic$/i.test(scheme)) return [value, rest];
  return [value, rest, rest.replace(/=+$/, ""), ...partsOf(Buffer.from(rest, "base64").toString())];
}

function partsOf(credentials: string): readonly string[] {
  const [user = "", ...password] = credentials.split(":");
  return [credentials, user, password.join(":")];
}

/**
 * As they are, as URLs and JSON have them, and as JSON has what is in JSON; the longest first, for others may be part of
 * them.
 */
function formsOf(secrets: readonly string[]): readonly string[] {
  const forms = secrets.flatMap((secret) => {
    // What is half a character of UTF-16 was sent as another one, and has no form in a URL.
    const sent = Buffer.from(secret).toString();
    const json = escapeForJson(sent);
    return [sent, encodeURIComponent(sent), encodeURI(sent), json, escapeForJson(json)];
  });
  return [...new Set(forms)].filter((form) => form !== "").toSorted((a, b) => b.length - a.length);
}

function escapeForJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

function escapeForRegExp(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
