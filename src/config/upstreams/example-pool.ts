import { OWN_KEYS, poolEntries, serverEntries, serverFields } from "./fields.ts";

type Rows = readonly (readonly [key: string, example: Example])[];

interface Example {
  readonly doc: string;
  /** Undefined: the second is shown, commented out. */
  readonly fallback: string | undefined;
  readonly example: string | undefined;
}

/**
 * A whole pool as lines of a configuration file: every setting explained, at its default. `comment` breaks a sentence
 * into comment lines.
 */
export function examplePool(comment: (text: string, indent: string) => readonly string[]): readonly string[] {
  const shared = serverEntries.filter(([key]) => !OWN_KEYS.has(key));
  const { name: nameField, url: urlField } = serverFields;
  return [
    "upstreams:",
    ...showFields(poolEntries, "  ", comment),
    "",
    ...comment("What holds for each of `servers` that does not set it itself.", "  "),
    "  defaults:",
    ...showFields(shared, "    ", comment),
    "",
    ...comment("Each may set whatever stands in `defaults` as well.", "  "),
    "  servers:",
    ...comment(nameField.doc, "    "),
    `    - name: ${nameField.example}`,
    ...comment(urlField.doc, "      "),
    `      url: ${urlField.example}`,
    ...["b", "c"].map((other) => `    - url: ${urlField.example?.replace(/-a\b/, `-${other}`)}`),
  ];
}

function showFields(
  rows: Rows,
  indent: string,
  comment: (text: string, indent: string) => readonly string[],
): readonly string[] {
  const lines: string[] = [];
  let group = "";
  for (const [key, { doc, fallback, example }] of rows) {
    const [name = "", owner = ""] = key.split(".").toReversed();
    // Below a setting that has a value itself, keys are written out.
    const below = owner !== "" && !rows.some(([other]) => other === owner);
    if (owner !== group && below) lines.push("", `${indent}${owner}:`);
    else lines.push("");
    group = below ? owner : "";
    const inner = below ? `${indent}  ` : indent;
    const text = `${below ? name : key}: ${fallback ?? example}`;
    lines.push(...comment(doc, inner), `${inner}${fallback === undefined ? "# " : ""}${text}`);
  }
  // The first setting follows its group's name at once.
  return lines.filter((line, i) => line !== "" || (i > 0 && !lines[i - 1]?.endsWith(":")));
}
