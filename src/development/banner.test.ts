import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { defineFlag, tableOf } from "../../test/support/flag-builders.ts";
import { type BannerFacts, renderBanner } from "./banner.ts";

const database = "postgres://pbflagd:secret@127.0.0.1:25432/pbflagd";

const facts: BannerFacts = {
  address: { kind: "tcp", host: "localhost", port: 9201 },
  config: { dataDir: ".pbflagd", database },
  dataDir: "/home/me/pbflagd/.pbflagd/postgres",
  flags: tableOf(defineFlag("checkout/1"), defineFlag("notifications/1"), defineFlag("notifications/2")),
};

test("tells where everything is, and four commands to try", () => {
  expect(renderBanner(facts)).toContain("    evaluator   http://localhost:9201\n");
  expect(renderBanner(facts)).toContain(`    database    ${database}\n`);
  expect(renderBanner(facts)).toContain("    data        /home/me/pbflagd/.pbflagd/postgres\n");
  expect(renderBanner(facts)).toContain("    flags       3 flags in 2 features\n");
  const evaluate =
    "curl -s localhost:9201/pbflags.v1.FlagEvaluatorService/Evaluate" +
    ` -H 'content-type: application/json' -d '{"flagId":"notifications/1"}'`;
  expect(commandsOf(renderBanner(facts))).toEqual([
    evaluate,
    `npx pbflagd sql "SELECT feature_flags.kill('notifications/1')"`,
    evaluate,
    "curl -s localhost:9201/metrics | grep pbflags_",
  ]);
});

test.each([
  { address: facts.address, written: "npx pbflagd watch" },
  { address: { kind: "tcp", host: "", port: 9301 }, written: "npx pbflagd watch --address localhost:9301" },
  {
    address: { kind: "unix", path: "/run/my flags/pbflagd.sock" },
    written: "npx pbflagd watch --address 'unix:///run/my flags/pbflagd.sock'",
  },
] as const)("names $written", ({ address, written }) => {
  expect(renderBanner({ ...facts, address })).toContain(`"${written}" prints changes as they come\n`);
});

test("without the flag of the examples, the first flag is the one to try", () => {
  const text = renderBanner({ ...facts, flags: tableOf(defineFlag("search/4")) });
  expect(text).toContain("1 flag in 1 feature\n");
  expect(text).toContain(`'{"flagId":"search/4"}'`);
  expect(text).toContain("feature_flags.kill('search/4')");
});

test.each([
  { host: "", written: "localhost:9301" },
  { host: "0.0.0.0", written: "localhost:9301" },
  { host: "::", written: "localhost:9301" },
  { host: "::1", written: "[::1]:9301" },
  { host: "127.0.0.1", written: "127.0.0.1:9301" },
])('what listens on "$host" is asked at $written', ({ host, written }) => {
  const text = renderBanner({ ...facts, address: { kind: "tcp", host, port: 9301 } });
  expect(text).toContain(`evaluator   http://${written}\n`);
  expect(commandsOf(text)[0]).toContain(`curl -s ${written}/pbflags`);
});

test("what listens on a Unix socket is asked there", () => {
  const text = renderBanner({ ...facts, address: { kind: "unix", path: "/run/my flags/pbflagd.sock" } });
  expect(text).toContain("evaluator   unix:///run/my flags/pbflagd.sock\n");
  expect(commandsOf(text)[0]).toContain(
    "curl -s --unix-socket '/run/my flags/pbflagd.sock' http://localhost/pbflags",
  );
});

test("a database elsewhere is named to the command that kills", () => {
  const elsewhere = renderBanner({ ...facts, config: { dataDir: "/tmp/flags", database } });
  expect(elsewhere).toContain('npx pbflagd sql --data-dir /tmp/flags "SELECT');
  const configured = renderBanner({ ...facts, dataDir: undefined });
  expect(configured).toContain(`npx pbflagd sql --database ${database} "SELECT`);
  expect(configured).not.toContain("    data  ");
});

test("a shell reads odd paths as they are", async () => {
  const dataDir = "/tmp/it's $HOME `here`";
  const [, kill = ""] = commandsOf(renderBanner({ ...facts, config: { dataDir, database } }));
  const script = kill.replace("npx pbflagd sql", "printf '%s\\n'");
  const { stdout } = await promisify(execFile)("sh", ["-c", script]);
  expect(stdout.split("\n")).toEqual([
    "--data-dir",
    dataDir,
    "SELECT feature_flags.kill('notifications/1')",
    "",
  ]);
});

function commandsOf(text: string): string[] {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.filter((line) => /^(curl|npx) /.test(line));
}
