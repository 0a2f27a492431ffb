import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { OwnerOrders, OwnerWord } from "./embedded-owner.ts";
import { eventually } from "./eventually.ts";

/** A running embedded-owner.ts, and what it has said so far. */
export class OwnerProcess implements AsyncDisposable {
  readonly words: OwnerWord[] = [];
  readonly #child: ChildProcessByStdio<null, Readable, null>;
  readonly #ended: Promise<unknown>;

  /** `script` is embedded-owner.ts as one JavaScript file. */
  constructor(script: string, orders: OwnerOrders) {
    this.#child = spawn(process.execPath, [script, JSON.stringify(orders)], {
      stdio: ["ignore", "pipe", "inherit"],
      // A process group of its own, to be signalled as a terminal does.
      detached: true,
    });
    const lines = createInterface(this.#child.stdout);
    lines.on("line", (line) => this.words.push(JSON.parse(line) as OwnerWord));
    this.#ended = Promise.all([once(this.#child, "close"), once(lines, "close")]);
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error("Cannot tell the owner's pid: it did not start");
    return this.#child.pid;
  }

  /** Resolves once the database is open. */
  async opened(): Promise<OwnerWord & { kind: "open" }> {
    let open: OwnerWord | undefined;
    await eventually(
      () => {
        open = this.words.find(({ kind }) => kind === "open" || kind === "failed");
        return open !== undefined;
      },
      { timeoutMs: 60_000, what: "the owner has opened its database" },
    );
    if (open?.kind !== "open")
      throw new Error(`The owner could not open its database: ${JSON.stringify(open)}`);
    return open;
  }

  /** Signals the process, or all that the terminal would, and waits until it has ended. */
  async end(signal: NodeJS.Signals, whom: "process" | "group" = "process"): Promise<void> {
    process.kill(whom === "group" ? -this.pid : this.pid, signal);
    await this.#ended;
  }

  /** Kills it, if the test has not ended it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}
