import { writeFileSync } from "node:fs";
import { mkdtemp, readdir, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { FlagEvaluatorService, type HealthRequestSchema } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import type { Clock } from "../../src/system/clock.ts";
import type { ExecEvent } from "../../src/upstream/exec/exec-event.ts";
import { type ExecOptions, openExecTransport } from "../../src/upstream/exec/exec-transport.ts";
import type { Transport } from "../../src/upstream/transport/transport.ts";
import { UpstreamError } from "../../src/upstream/upstream-error.ts";
import type { ExecSettings } from "../../src/upstream/upstream-settings.ts";
import { eventually } from "../support/eventually.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { upstreamSettings } from "../support/fake-upstream.ts";
import { noStream } from "../support/no-stream.ts";

const { health } = FlagEvaluatorService.method;
const NO_FIELDS: MessageInitShape<typeof HealthRequestSchema> = {};

/** Programs in a folder of their own, what became of them, and transports to them. */
export class ExecScene implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly events: ExecEvent[] = [];
  /** What the programs wrote. */
  readonly lines: string[] = [];
  /** The URLs of the connections that are open. */
  readonly connected: string[] = [];
  /** For the scripts. */
  readonly folder: string;
  /** For sockets and pid files. */
  readonly plugins: string;
  readonly #transports: Transport[] = [];
  #scripts = 0;

  private constructor(folder: string) {
    this.folder = folder;
    this.plugins = join(folder, "run");
  }

  static async open(): Promise<ExecScene> {
    return new ExecScene(await realpath(await mkdtemp(join(tmpdir(), "pbflagd-exec-"))));
  }

  /** The path of an executable file. */
  script(body: string, interpreter = "/bin/sh"): string {
    this.#scripts += 1;
    const path = join(this.folder, `plugin-${this.#scripts}`);
    // At once: a file that is still open for writing cannot be run.
    writeFileSync(path, `#!${interpreter}\n${body}\n`, { mode: 0o755 });
    return path;
  }

  /** A transport to a program that need not listen: calls to it are answered in this process. */
  start(program: string, exec: Partial<ExecSettings> = {}, options: Partial<ExecOptions> = {}): Transport {
    const settings = upstreamSettings({ name: "plug", url: `exec:${program}` });
    const transport = openExecTransport({
      settings: { ...settings, exec: { ...settings.exec, ...exec } },
      connect: ({ url }) => this.#connect(url),
      folder: this.plugins,
      env: { PATH: process.env["PATH"] },
      clock: this.clock,
      random: () => 0.5,
      onOutput: (_, line) => this.lines.push(line),
      onEvent: (_, event) => this.events.push(event),
      ...options,
    });
    this.#transports.push(transport);
    return transport;
  }

  /** Resolves with the last event of a kind once there are so many of it. */
  async seen<K extends ExecEvent["kind"]>(kind: K, count = 1): Promise<Extract<ExecEvent, { kind: K }>> {
    const isOfKind = (event: ExecEvent): event is Extract<ExecEvent, { kind: K }> => event.kind === kind;
    await eventually(() => this.events.filter(isOfKind).length >= count, {
      what: `${count} of ${kind} among ${JSON.stringify(this.events)} ${JSON.stringify(this.lines.slice(0, 20))}`,
    });
    const last = this.events.filter(isOfKind).at(-1);
    if (last === undefined) throw new Error("Cannot be: it has been seen");
    return last;
  }

  /** Sockets and pid files that are there. */
  async files(): Promise<readonly string[]> {
    const names: readonly string[] = await readdir(this.plugins).catch(() => []);
    return names.toSorted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = Promise.all(this.#transports.map((transport) => transport[Symbol.asyncDispose]()));
    // For those that have to be killed.
    const turning = eventually(
      async () => {
        await this.clock.advance(1_000);
        return isOver;
      },
      { what: "all programs have ended" },
    );
    let isOver = false;
    await closed;
    isOver = true;
    await turning;
    await rm(this.folder, { recursive: true, force: true });
  }

  #connect(url: string): Transport {
    this.connected.push(url);
    return {
      target: url,
      call: async (method) => {
        if (!this.connected.includes(url)) throw new UpstreamError("connection", "closed");
        return create(method.output);
      },
      stream: noStream,
      [Symbol.asyncDispose]: async () => {
        this.connected.splice(this.connected.indexOf(url), 1);
      },
    };
  }
}

/** Asks for its health, for as long as the signal allows. */
export function ask(transport: Transport, signal = new AbortController().signal, clock?: Clock) {
  return transport.call(health, NO_FIELDS, { at: (clock?.now() ?? 0) + 500, signal });
}

/** A line of shell that announces the plug-in as it is to be. */
export const ANNOUNCE = 'echo "pbflagd-plugin 1 connect $PBFLAGD_PLUGIN_ADDRESS"';

/** A line of shell that ends when stdin closes, as plug-ins should. */
export const SERVE = "exec cat > /dev/null";
