// Writes what V8 compiles of dist/bundle while a daemon starts, serves and ends. The daemon has no database, and one flag.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const recorder = new URL("record.mjs", import.meta.url).pathname;
/** A FileDescriptorSet: one file, one message with the option (pbflags.feature), one bool with the option (pbflags.flag). */
const DESCRIPTORS =
  "ClwKC2ZsYWdzLnByb3RvEgR0ZXN0Ij8KCEZlYXR1cmUwEioKBGZsYWcYASABKAhCFsrzGBIKBGZsYWcSBAoCCAEqBHVzZXJSBGZsYWc6B8LzGAMKAWZiBnByb3RvMw==";

const folder = await mkdtemp(join(tmpdir(), "pbflagd-build-"));
try {
  const descriptors = join(folder, "flags.pb");
  await writeFile(descriptors, Buffer.from(DESCRIPTORS, "base64"));
  const args = ["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--descriptors", descriptors];
  const child = spawn(
    process.execPath,
    [recorder, ...args, "--database", "postgres://pbflagd@127.0.0.1:1/none"],
    {
      env: { PATH: process.env.PATH },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const exited = once(child, "exit");
  const lines = [];
  for await (const line of createInterface(child.stdout)) {
    lines.push(line);
    if (JSON.parse(line).event === "serving") child.kill("SIGTERM");
  }
  const [code] = await exited;
  if (code !== 0) throw new Error(`Cannot compile the bundle: it ended with ${code}\n${lines.join("\n")}`);
} finally {
  await rm(folder, { recursive: true });
}
