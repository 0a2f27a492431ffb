import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { formatAddress } from "../../src/config/address.ts";
import { parseConfig } from "../../src/config/parse-config.ts";
import { type Daemon, openDaemon } from "../../src/daemon.ts";
import { systemClock } from "../../src/system/clock.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { describeFlags } from "../support/descriptors.ts";
import { eventually } from "../support/eventually.ts";
import { EXAMPLE_UPSTREAMS, FakePool } from "../support/fake-pool.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { serveMemory } from "../wire/serve-memory.ts";
import { runCli } from "./run-cli.ts";

/** A command as the documentation shows it, and what it prints there. */
interface Example {
  readonly command: string;
  readonly output: string;
}

const documentation = await readFile(new URL("../../docs/cli.md", import.meta.url), "utf8");

test("every command in docs/cli.md prints what is said there", async () => {
  const folder = await mkdtemp(join(tmpdir(), "pbflagd-docs-"));
  try {
    for (const { command, output, printed } of await runExamples(folder, readExamples(documentation))) {
      expect(`$ ${command}\n${printed}`).toMatch(toPattern(`$ ${command}\n${output}`));
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

/** Runs the examples one after another, on a database and with a daemon. */
async function runExamples(
  folder: string,
  examples: readonly Example[],
): Promise<readonly (Example & { printed: string })[]> {
  const descriptors = join(folder, "descriptors.pb");
  await writeFile(descriptors, exampleFlags());
  await using database = await createTestDatabase();
  // The first example's database knows flags; the others' gets to know them in the course of the document.
  await using other = await createTestDatabase();
  const env = {
    PBFLAGS_DATABASE: database.url,
    PBFLAGS_DESCRIPTORS: descriptors,
    PBFLAGS_LISTEN: "127.0.0.1:0",
  };
  await runCli(["sync"], { env: { ...env, PBFLAGS_DATABASE: other.url } });
  await using daemon = await openQuickDaemon(env);
  await using proxy = await serveMemory({ upstreams: new FakePool(...EXAMPLE_UPSTREAMS) });

  let exitCode = 0;
  const results: (Example & { printed: string })[] = [];
  for (const { command, output } of examples) {
    const argv = words(command).map((word) => (word === "descriptors.pb" ? descriptors : word));
    const url = command.includes("notifications/99") ? other.url : database.url;
    const run = async (): Promise<string> => {
      let printed = "";
      const asked = argv[1] === "upstreams" ? proxy.server.address : daemon.address;
      const variables = { ...env, PBFLAGS_DATABASE: url, PBFLAGS_LISTEN: formatAddress(asked) };
      ({ exitCode } = await runCli(argv.slice(1), { env: variables, onOutput: (text) => (printed += text) }));
      return printed;
    };
    let printed = command === "echo $?" ? `${exitCode}\n` : await run();
    // The daemon hears of a change a moment later.
    if (argv[1] === "evaluate")
      await eventually(async () => toPattern(output).test((printed = await run())), { what: command });
    results.push({ command, output, printed });
  }
  return results;
}

async function openQuickDaemon(env: Readonly<Record<string, string>>): Promise<Daemon> {
  const args = { "--cache-kill-ttl": "50ms", "--cache-flag-ttl": "50ms", "--cache-override-ttl": "50ms" };
  const logger = createLogger({
    level: "error",
    format: "json",
    destination: { write: () => true },
    clock: systemClock,
  });
  const deps = {
    version: "1.2.3",
    clock: systemClock,
    random: Math.random,
    logger,
    tracing: undefined,
    stopping: new AbortController().signal,
    configSource: undefined,
    env: {},
    runtimeFolder: "/nowhere",
  };
  const daemon = await openDaemon(parseConfig({ args, env }, "serve").config, deps);
  await eventually(() => daemon.namespace.ready);
  return daemon;
}

test("docs/cli.md has a section for every command, with an example", () => {
  const sections = documentation.split(/^### /m).slice(1);
  const titles = sections.map((section) => section.slice(0, section.indexOf("\n")));
  expect(titles.toSorted()).toEqual([
    "config check",
    "config print",
    "dev",
    "evaluate",
    "get",
    "health",
    "kill",
    "list",
    "migrate",
    "override",
    "revive",
    "serve",
    "set",
    "sql",
    "sync",
    "upstreams",
    "watch",
  ]);
  for (const [i, section] of sections.entries()) expect(section).toContain(`pbflagd ${titles[i]}`);
});

function exampleFlags(): Uint8Array {
  return describeFlags([
    {
      feature: "notifications",
      flags: [
        { number: 1, name: "email_enabled", type: "BOOL", layer: "user", default: true },
        {
          number: 2,
          name: "digest_frequency",
          type: "STRING",
          layer: "user",
          default: "daily",
          description: "How often a digest goes out.",
        },
      ],
    },
  ]);
}

function readExamples(markdown: string): readonly Example[] {
  const blocks = Array.from(markdown.matchAll(/^```console\n([\s\S]*?)^```$/gm), ([, block = ""]) => block);
  return blocks.flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((text) => ({
        command: text.slice(0, text.indexOf("\n")),
        output: text.slice(text.indexOf("\n") + 1),
      })),
  );
}

/** `…` stands for anything. */
function toPattern(output: string): RegExp {
  const escaped = output.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(`^${escaped.replaceAll("…", String.raw`[\s\S]*?`)}$`);
}

/** Splits a command line as a shell would, as far as the documentation needs it. */
function words(command: string): readonly string[] {
  return Array.from(
    command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g),
    ([, double, single, bare]) => double ?? single ?? bare ?? "",
  );
}
