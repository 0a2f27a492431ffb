// Writes what V8 compiles of dist/bundle while a daemon starts, becomes ready and ends. It has a database where an embedded
// Postgres can be had; elsewhere what talks to one is compiled when it is called.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const recorder = new URL("record.mjs", import.meta.url).pathname;
/** A FileDescriptorSet: one file, one message with the option (pbflags.feature), one bool with the option (pbflags.flag). */
const DESCRIPTORS =
  "ClwKC2ZsYWdzLnByb3RvEgR0ZXN0Ij8KCEZlYXR1cmUwEioKBGZsYWcYASABKAhCFsrzGBIKBGZsYWcSBAoCCAEqBHVzZXJSBGZsYWc6B8LzGAMKAWZiBnByb3RvMw==";
const READY_MAX_MS = 5_000;

const folder = await mkdtemp(join(tmpdir(), "pbflagd-build-"));
// Root's Postgres runs under another account.
await chmod(folder, 0o755);
try {
  await record(["dev", "--data-dir", join(folder, "data")], untilReady).catch(async (error) => {
    console.log(`Compiling the bundle without a database: ${error.message}`);
    const descriptors = join(folder, "flags.pb");
    await writeFile(descriptors, Buffer.from(DESCRIPTORS, "base64"));
    const none = "postgres://pbflagd@127.0.0.1:1/none";
    await record(["serve", "--descriptors", descriptors, "--database", none], async () => {});
  });
} finally {
  await rm(folder, { recursive: true });
}

/** Ends the daemon once what it is to be recorded for has happened. */
async function record(command, hasServed) {
  const args = [recorder, ...command, "--listen", "127.0.0.1:0", "--log-format", "json"];
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env.PATH },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  const said = [];
  child.stderr.on("data", (text) => said.push(String(text)));
  for await (const line of createInterface(child.stdout)) {
    said.push(line);
    // `dev` prints more than its log.
    if (!line.startsWith("{")) continue;
    const { event, address } = JSON.parse(line);
    if (event === "serving") void hasServed(address.port).finally(() => child.kill("SIGTERM"));
  }
  const [code] = await exited;
  if (code !== 0) throw new Error(`it ended with ${code}: ${said.join("\n").trim()}`);
}

async function untilReady(port) {
  const signal = AbortSignal.timeout(READY_MAX_MS);
  while ((await fetch(`http://127.0.0.1:${port}/readyz`, { signal })).status !== 200) await sleep(50);
}
