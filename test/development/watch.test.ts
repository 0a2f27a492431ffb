import { cp, mkdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Dev, startDev } from "./start-dev.ts";

const root = new URL("../..", import.meta.url).pathname;

let packageDir: string;
let dev: Dev;
let port: number;
let original: string;

beforeAll(async () => {
  packageDir = join(inject("runFolder"), "watched");
  await mkdir(packageDir);
  for (const part of ["dist", "examples", "migrations", "proto", "buf.yaml", "package.json"]) {
    await cp(join(root, part), join(packageDir, part), { recursive: true });
  }
  await symlink(join(root, "node_modules"), join(packageDir, "node_modules"));
  original = await readFile(protoPath("notifications"), "utf8");
  dev = startDev({ packageDir, args: ["--listen", "127.0.0.1:0"] });
  port = await dev.whenServing();
});

afterAll(async () => {
  await dev?.[Symbol.asyncDispose]();
  if (packageDir !== undefined) await rm(packageDir, { recursive: true, force: true, maxRetries: 10 });
});

test("a flag that is added to an example is served, and has a row", async () => {
  const since = dev.log.length;
  await edit("notifications", withFlag(original, "string added = 40", "an addition"));
  await eventually(async () => (await evaluate("notifications/40")).includes("an addition"), {
    timeoutMs: 20_000,
    what: "the new flag answers with its default",
  });
  expect(await dev.whenLogged("flags_synced", since)).toMatchObject({ created: ["notifications/40"] });
});

test("a proto that is wrong is reported, and what was there serves on", async () => {
  const since = dev.log.length;
  await edit("notifications", "message {\n}\n");
  const refusal = await dev.whenLogged("example_flags_refused", since);
  expect(JSON.stringify(refusal)).toContain("notifications.proto:1:1");
  expect(await evaluate("notifications/40")).toContain("an addition");
  expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(200);
});

test("put right, it is taken up again; a flag that has gone is archived", async () => {
  const since = dev.log.length;
  await edit("notifications", withFlag(original, "string mended = 41", "mended"));
  expect(await dev.whenLogged("flags_synced", since)).toMatchObject({
    created: ["notifications/41"],
    archived: ["notifications/40"],
  });
  await eventually(async () => (await evaluate("notifications/41")).includes("mended"), {
    timeoutMs: 20_000,
    what: "the flag answers with its default",
  });
  expect(await evaluate("notifications/1")).toContain("boolValue");
});

test("a feature in a file of its own is served", async () => {
  const feature = withFlag(
    original.replaceAll(/notifications/gi, (word) => (word[0] === "N" ? "Extra" : "extra")),
    "string own = 42",
    "of its own",
  );
  await edit("extra", feature);
  await eventually(async () => (await evaluate("extra/42")).includes("of its own"), {
    timeoutMs: 20_000,
    what: "the new feature's flag answers with its default",
  });
  expect(await evaluate("notifications/41")).toContain("mended");
});

function protoPath(name: string): string {
  return join(packageDir, "examples", "flags", "examples", `${name}.proto`);
}

/** By rename, as most editors save. */
async function edit(name: string, text: string): Promise<void> {
  await writeFile(`${protoPath(name)}.new`, text);
  await rename(`${protoPath(name)}.new`, protoPath(name));
}

/** With one more flag at the end of the file's only message. */
function withFlag(proto: string, field: string, fallback: string): string {
  return proto.replace(
    /\}\s*$/,
    `  ${field} [(pbflags.flag).description = "Test.", (pbflags.flag).default.string_value.value = "${fallback}"];\n}\n`,
  );
}

async function evaluate(flagId: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/pbflags.v1.FlagEvaluatorService/Evaluate`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ flagId }),
  });
  return response.text();
}
