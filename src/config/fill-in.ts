/** A text with its variables filled in. */
export interface FilledIn {
  readonly text: string;
  /** What cannot be filled in. Undefined: everything was. */
  readonly problem: string | undefined;
}

/** Replaces `${NAME}` by the variable's value. `$${` stands for `${`. What is `secret` is not quoted. */
export function fillIn(
  template: string,
  env: Readonly<Record<string, string | undefined>>,
  secret: boolean,
): FilledIn {
  const problems: string[] = [];
  const text = template.replaceAll(
    /\$\$\{|\$\{([^}]*)(\}?)/g,
    (found, name: string | undefined, end: string) => {
      if (name === undefined) return "${";
      if (end === "" || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
        problems.push(`expected a variable such as \${NAME}, got "${secret ? "***" : shorten(found)}"`);
      } else if ((env[name] ?? "") === "") problems.push(`the variable ${name} is not set`);
      return env[name] ?? "";
    },
  );
  return { text, problem: problems.length === 0 ? undefined : problems.join("; ") };
}

/** A text as an error may quote it: printable, and not too long. */
export function shorten(text: string): string {
  const start = text.replaceAll(/\p{Cc}/gu, "?").slice(0, 100);
  return text.length > 100 ? `${start}…` : start;
}
