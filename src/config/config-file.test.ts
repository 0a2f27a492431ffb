import { expect, test } from "vitest";
import { parseConfigFile } from "./config-file.ts";

function problemsOf(yaml: string): readonly string[] {
  return parseConfigFile("f.yaml", yaml).problems;
}

test("settings are found by key, with the line they stand in", () => {
  const file = parseConfigFile(
    "f.yaml",
    "# a comment\nlisten: :9201\n\ncache:\n  # another\n  kill_ttl: 30s\n",
  );
  expect(file.problems).toEqual([]);
  expect([...file.entries]).toEqual([
    ["listen", { text: ":9201", line: 2 }],
    ["cache.kill_ttl", { text: "30s", line: 6 }],
  ]);
});

test.each([
  "",
  "# nothing\n",
  "---\n",
  "{}",
  "cache:\n  # all commented out\n",
  "\uFEFFlisten: :1",
  "listen: :1\r\n",
  "null",
])("%j is a configuration file", (yaml) => {
  expect(problemsOf(yaml)).toEqual([]);
});

test.each([
  ["lsiten: :1", "lsiten (f.yaml:1): unknown setting, did you mean listen?"],
  ["\n\nkill_ttl: 1s", "kill_ttl (f.yaml:3): unknown setting, did you mean cache.kill_ttl?"],
  ["cache:\n  kill_tl: 1s", "cache.kill_tl (f.yaml:2): unknown setting, did you mean cache.kill_ttl?"],
  ["nonsense: 1", "nonsense (f.yaml:1): unknown setting"],
  ["__proto__: {x: 1}", "__proto__ (f.yaml:1): unknown setting"],
  ["listen: :1\nlisten: :2", "listen (f.yaml:2): set twice, first in line 1"],
  ["cache: {kill_ttl: 1s}\ncache.kill_ttl: 2s", "cache.kill_ttl (f.yaml:2): set twice, first in line 1"],
  ["listen:", "listen (f.yaml:1): has no value: give it one, or leave it out"],
  ["listen: {port: 1}", "listen (f.yaml:1): expected one value, got a mapping"],
  ["listen: [a, b]", "listen (f.yaml:1): expected one value, got a list"],
  ["cache: 5m", 'cache (f.yaml:1): expected settings below it, got "5m"'],
  ["- listen", "f.yaml:1: expected settings, got a list"],
  ["\nhello", 'f.yaml:2: expected settings, got "hello"'],
  ["1: x", 'f.yaml:1: expected the name of a setting, got "1"'],
  ["? [a]\n: x", "f.yaml:1: expected the name of a setting, got a list"],
  ["a: &a 1\nlisten: *a", "listen (f.yaml:2): expected one value, got the alias *a"],
  ["---\nlisten: :1\n---\nlisten: :2", 'f.yaml:3: expected one document, got another after "---"'],
  ["a: !secret x", "f.yaml:1: Unresolved tag"],
])("%j: %s", (yaml, problem) => {
  expect(problemsOf(yaml)).toContain(problem);
});

test.each([
  "listen: [",
  "cache:\n\tkill_ttl: 1s",
  'a: "',
  "a: b: c",
  "a: *nobody",
  "@",
  "%YAML 1.2",
  "a: |9\n b",
])("%j is refused with file and line", (yaml) => {
  const problems = problemsOf(yaml);
  expect(problems.length).toBeGreaterThan(0);
  for (const problem of problems) expect(problem).toMatch(/f\.yaml:\d+/);
});

test("an alias bomb is refused as the aliases it is made of", () => {
  const rows = Array.from({ length: 9 }, (_, i) => `l${i + 1}: &l${i + 1} [${`*l${i}, `.repeat(9)}]`);
  const problems = problemsOf(["l0: &l0 lol", ...rows, "listen: *l9"].join("\n"));
  expect(problems.at(-1)).toBe("listen (f.yaml:11): expected one value, got the alias *l9");
});

test("ten megabytes are refused, and so are too many words", () => {
  expect(problemsOf("#".repeat(10_000_000))).toEqual([
    "f.yaml:1: cannot be read as YAML: expected at most 32768 bytes, got more",
  ]);
  expect(problemsOf("a:\n".repeat(6_000))).toEqual([
    "f.yaml:1: cannot be read as YAML: expected at most 6000 words and signs, got more",
  ]);
});

test("a file with many mistakes names the first twenty", () => {
  const problems = problemsOf(Array.from({ length: 500 }, (_, i) => `nonsense${i}: 1`).join("\n"));
  expect(problems).toHaveLength(21);
  expect(problems.at(-1)).toBe("and 480 more");
});

test("what a mistake quotes is short and printable", () => {
  const [problem = ""] = problemsOf(`listen: {}\n? "${"x".repeat(200)}\\e[31m"\n: 1`).slice(-1);
  expect(problem.length).toBeLessThan(120);
  const [escape = ""] = problemsOf('? "\\e[31m"\n: 1');
  expect(escape).not.toContain("\u001B");
});
