import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import type { TestContext } from "vitest";

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A hung command is a failed one. */
const TIMEOUT_MS = 60_000;

/** Runs a command as somebody would who typed it in, until it ends or is told to with SIGTERM. Resolves in any case. */
export async function runInShell(
  command: string,
  where: { readonly folder: string; readonly env: Readonly<Record<string, string>> },
  stop?: AbortSignal,
): Promise<CommandResult> {
  const child = spawn("sh", ["-c", command], {
    cwd: where.folder,
    env: where.env,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  stop?.addEventListener("abort", () => child.kill("SIGTERM"), { once: true });
  const [[code], stdout, stderr] = await Promise.all([
    once(child, "close"),
    text(child.stdout),
    text(child.stderr),
  ]);
  return { code, stdout, stderr };
}

/** The same, for a command that has to succeed: what it printed. */
export async function typeIn(command: string, where: Parameters<typeof runInShell>[1]): Promise<string> {
  const { code, stdout, stderr } = await runInShell(command, where);
  if (code !== 0) throw new Error(`${command}\nended with ${code}:\n${stdout}${stderr}`);
  return stdout;
}

/** Whether a machine has a program. */
export async function hasProgram(name: string): Promise<boolean> {
  const { code } = await runInShell(`command -v ${name}`, {
    folder: "/",
    env: { PATH: process.env["PATH"] ?? "" },
  });
  return code === 0;
}

/** Skips a test that needs what this machine has not, and prints why: a report of the run may leave it out. */
export function skipUnless(has: boolean, what: string, context: TestContext): void {
  if (has) return;
  const reason = `this machine has no ${what}`;
  console.log(`skipped: ${context.task.name}: ${reason}`);
  context.skip(reason);
}
