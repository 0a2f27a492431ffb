import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ConfigError } from "../../src/config/config-error.ts";
import { parseConfigFile } from "../../src/config/config-file.ts";
import { exampleFile } from "../../src/config/example-file.ts";
import { parseConfig } from "../../src/config/parse-config.ts";
import { keysOf, settingEntries } from "../../src/config/settings.ts";
import { poolEntries, serverEntries } from "../../src/config/upstreams/fields.ts";
import {
  assertShort,
  judgePause,
  type Measured,
  measurePauses,
  measureShortest,
  PAUSES,
} from "../support/pauses.ts";
import { size } from "../support/size.ts";

// Fault 8 at the entrance for configuration: a running daemon reads its file again.

type Outcome = "accepted" | "refused";

/** Reads a file as `pbflagd serve` would. Whatever is in it, the answer is a configuration or a ConfigError. */
function readConfig(yaml: string): Outcome {
  try {
    parseConfig({ args: {}, env: { NAME: "value" }, file: parseConfigFile("fault.yaml", yaml) }, "serve");
    return "accepted";
  } catch (error) {
    if (error instanceof ConfigError && error.problems.length > 0) return "refused";
    throw error;
  }
}

function measure(yaml: string): Promise<Measured<Outcome>> {
  return measureShortest(() => measurePauses(() => readConfig(yaml)));
}

/** The parser's code runs slowly until Node has seen it run; a daemon has read its configuration before. */
function warmUp(): void {
  for (let i = 0; i < 20; i++) readConfig(exampleFile("proxy"));
}

const key = fc.oneof(
  fc.constantFrom(
    ...settingEntries.flatMap(([name]) => keysOf(name)),
    ...[...poolEntries, ...serverEntries].map(([name]) => name),
    "cache",
    "limits",
    "upstreams",
    "defaults",
    "servers",
    "auth",
    "servers[0]",
    "<<",
    "__proto__",
  ),
  fc.string({ maxLength: 12 }),
);
const scalar = fc.oneof(
  fc.constantFrom(
    "",
    "~",
    "30s",
    "-1s",
    "0",
    ".nan",
    ".inf",
    "-.inf",
    "9223372036854775808",
    "1e400",
    "0x7f",
    "true",
    "off",
  ),
  fc.constantFrom(
    "${NAME}",
    "${MISSING}",
    "${",
    "$${x}",
    "!!binary aGk=",
    "!secret x",
    "*a",
    "&a x",
    "2026-01-01",
    "|",
    ">",
    "\u0000",
    "\uD800",
  ),
  fc.string({ unit: "binary", maxLength: 30 }).map((text) => JSON.stringify(text)),
  fc.string({ unit: "grapheme", maxLength: 30 }),
);
const lines = fc
  .array(
    fc.tuple(
      fc.constantFrom("", "  ", "    ", "\t", "- ", "? ", "# "),
      key,
      fc.constantFrom(": ", ":", " : ", ""),
      scalar,
    ),
    { maxLength: 30 },
  )
  .map((rows) => rows.map((row) => row.join("")).join("\n"));
/** With the pool in place of `server`. */
const pool = exampleFile("proxy")
  .replace(/^server:.*$/m, "")
  .replace(/^# upstreams:\n[^]*/m, (commented) => commented.replaceAll(/^# ?/gm, ""));
const damaged = fc
  .tuple(
    fc.constantFrom(exampleFile("root"), exampleFile("proxy"), pool),
    fc.nat(),
    fc.nat({ max: 50 }),
    fc.string({ unit: "binary", maxLength: 5 }),
  )
  .map(([text, at, cut, put]) => {
    const start = at % text.length;
    return text.slice(0, start) + put + text.slice(start + cut);
  });
const repeated = fc
  .tuple(
    fc.constantFrom(
      "[",
      "{a: ",
      "- ",
      "? ",
      "upstreams.servers: ",
      "a:\n",
      '"\\x',
      "&a ",
      "*a ",
      "!x ",
      "---\n",
      "\n",
      "a: b\n",
      "  ",
      "'",
      "|\n x\n",
      "%",
      ": ",
      ",",
    ),
    fc.integer({ min: 1, max: 70_000 }),
  )
  .map(([text, length]) => text.repeat(Math.ceil(length / text.length)));
const anyText = fc.string({ unit: "binary", maxLength: 500 });

test(`${size(300, 10_000)} generated files are accepted or refused, and hold nobody up`, PAUSES, async () => {
  warmUp();
  expect([exampleFile("proxy"), pool].map(readConfig)).toEqual(["accepted", "accepted"]);
  const outcomes: Record<Outcome, number> = { accepted: 0, refused: 0 };
  let longestMs = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        { arbitrary: lines, weight: 5 },
        { arbitrary: damaged, weight: 3 },
        { arbitrary: anyText, weight: 1 },
        { arbitrary: repeated, weight: 1 },
      ),
      async (yaml) => {
        const { result, pauseMs } = await measure(yaml);
        outcomes[result]++;
        assertShort(pauseMs);
        longestMs = Math.max(longestMs, pauseMs);
      },
    ),
    { numRuns: size(300, 10_000) },
  );
  // The inputs are no use if they all fail at the same door.
  expect(outcomes.accepted).toBeGreaterThan(0);
  expect(outcomes.refused).toBeGreaterThan(0);
  judgePause(`one of ${size(300, 10_000)} generated configurations`, longestMs);
});

/** As large as is read at all. */
const most = 32_768;
const bombs: Readonly<Record<string, string>> = {
  "settings that exist, over and over": "listen: :1\n".repeat(900),
  "unknown settings": Array.from({ length: 1_000 }, (_, i) => `cache.kill_tt${i}: 1`).join("\n"),
  "servers that lack all they need": `upstreams: {servers: [${"{}, ".repeat(1_900)}]}`,
  "servers of one name": `upstreams: {servers: [${"{url: http://a}, ".repeat(480)}]}`,
  "servers without end": `upstreams:\n  servers:\n${Array.from({ length: 700 }, (_, i) => `    - url: http://a${i}\n`).join("")}`,
  "unknown settings of servers": `upstreams.servers:\n${"  - retry: {max_retri: 1, max_retry: 2}\n".repeat(300)}`,
  "headers without end": `upstreams.servers: [{url: http://a, auth: {method: custom, headers: {${Array.from({ length: 900 }, (_, i) => `x${i}: §`).join(", ")}}}}]`,
  "variables of a program without end": `upstreams:\n  defaults:\n    exec:\n      env:\n${Array.from({ length: 1_000 }, (_, i) => `        V${i}: "\${NAME"\n`).join("")}`,
  "lists in lists": `upstreams: {servers: ${"[".repeat(1_000)}`,
  "settings in settings": `upstreams: ${"{defaults: ".repeat(1_000)}`,
  "brackets, nested": "[".repeat(most),
  "mappings, nested": "{a: ".repeat(most / 4),
  "lists, nested": "- ".repeat(most / 2),
  "mappings, ever deeper": Array.from({ length: 300 }, (_, i) => `${" ".repeat(i)}a:\n`).join(""),
  documents: "---\n".repeat(most / 4),
  "bad escapes": `a: "${"\\x".repeat(most / 2 - 3)}"`,
  "one long text": `descriptors: ${"x".repeat(most - 20)}`,
  "one long text of many lines": `a: |\n${"  x\n".repeat(most / 4 - 5)}`,
  variables: `descriptors: ${"${NAME}".repeat(9_000)}`,
  "broken variables": `descriptors: ${"${".repeat(most / 2 - 10)}`,
  "aliases of aliases": Array.from({ length: 600 }, (_, i) => `a${i}: &a${i} [*a${i - 1}, *a${i - 1}]`).join(
    "\n",
  ),
  blanks: `a: ${" ".repeat(most - 4)}b`,
  "line breaks": "\n".repeat(most),
  comments: "#\n".repeat(most / 2),
  "ten megabytes": "a: b\n".repeat(2_000_000),
};

test.for(Object.entries(bombs))("%s are refused, and hold nobody up", PAUSES, async ([what, yaml]) => {
  warmUp();
  const { result, pauseMs } = await measure(yaml);
  expect(result).toBe("refused");
  judgePause(`a configuration of ${what}`, pauseMs);
});
