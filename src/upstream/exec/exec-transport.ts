import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Clock } from "../../system/clock.ts";
import type { Deadline } from "../transport/deadline.ts";
import { SOCKET_PATH_BYTES_MAX } from "../transport/parse-upstream-url.ts";
import type { StreamMethod, Transport, UnaryMethod } from "../transport/transport.ts";
import { UpstreamError } from "../upstream-error.ts";
import type { UpstreamSettings } from "../upstream-settings.ts";
import type { ExecEvent } from "./exec-event.ts";
import { findProgram } from "./find-program.ts";
import { type PluginFiles, pluginFiles } from "./pid-file.ts";
import { restartDelayMs } from "./restart-delay.ts";
import { runPlugin } from "./run-plugin.ts";

export interface ExecOptions {
  /** Their URL is `exec:` and a program. */
  readonly settings: UpstreamSettings;
  /** Opens the transport to what the plug-in announced: the same settings with its URL. */
  readonly connect: (settings: UpstreamSettings) => Transport;
  /** For sockets and pid files. Is created if it is missing; nobody else may have access to it. */
  readonly folder: string;
  /** The variables of this process, of which a plug-in gets PATH, HOME, LANG, TZ and TMPDIR. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** 0 to 1, below 1. */
  readonly random: () => number;
  /** A line that the plug-in of this upstream wrote on stdout or stderr. */
  readonly onOutput: (upstream: string, line: string) => void;
  readonly onEvent: (upstream: string, event: ExecEvent) => void;
}

/**
 * Runs a program that serves the evaluator's RPCs on a socket of its own, and starts it again when it ends. It is
 * started at once. Calls wait for it while it starts, and fail while it is down. Disposing ends it.
 *
 * @throws UpstreamError (`url`) if there is no such program, or the path of its socket is too long
 */
export function openExecTransport(options: ExecOptions): Transport {
  const { settings, folder, env, random } = options;
  const program = findProgram({ upstream: settings.name, url: settings.url, searchPath: env["PATH"] });
  const suffix = Math.floor(random() * 2 ** 32)
    .toString(16)
    .padStart(8, "0");
  const files = pluginFiles(folder, settings.name, suffix);
  const bytes = Buffer.byteLength(files.socket);
  if (bytes > SOCKET_PATH_BYTES_MAX) {
    const must = `the path of its socket must have at most ${SOCKET_PATH_BYTES_MAX} bytes`;
    const message = `Cannot run upstream ${settings.name}: ${must}, got ${bytes}: ${files.socket}`;
    throw new UpstreamError("url", message);
  }
  return new ExecTransport(options, program, files);
}

/** How long a plug-in has to serve before its end counts as the first one. */
const RAN_WELL_MS = 10_000;

type State =
  /** `over` resolves when it has announced itself, or failed. */
  | { readonly kind: "starting"; readonly over: AbortSignal }
  | { readonly kind: "serving"; readonly transport: Transport }
  | { readonly kind: "down"; readonly reason: string; readonly retryAt: number | undefined }
  | { readonly kind: "closed" };

class ExecTransport implements Transport {
  readonly target: string;
  readonly #options: ExecOptions;
  readonly #program: string;
  readonly #files: PluginFiles;
  readonly #closing = new AbortController();
  readonly #closed: Promise<void>;
  #state: State = { kind: "closed" };

  constructor(options: ExecOptions, program: string, files: PluginFiles) {
    this.target = options.settings.url;
    this.#options = options;
    this.#program = program;
    this.#files = files;
    this.#closed = this.#supervise(this.#closing.signal);
  }

  async call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
    deadline: Deadline,
  ): Promise<MessageShape<O>> {
    const transport = await this.#serving(deadline.signal);
    return transport.call(method, request, deadline);
  }

  async *stream<I extends DescMessage, O extends DescMessage>(
    method: StreamMethod<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): AsyncGenerator<MessageShape<O>> {
    const transport = await this.#serving(signal);
    yield* transport.stream(method, request, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#closed;
  }

  /** The way to the plug-in. Waits while that starts; rejects if it is down. */
  async #serving(signal: AbortSignal): Promise<Transport> {
    signal.throwIfAborted();
    if (this.#state.kind === "starting") await eitherAborts(this.#state.over, signal);
    signal.throwIfAborted();
    if (this.#state.kind === "serving") return this.#state.transport;
    throw this.#notServing(this.#state);
  }

  async #supervise(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const { reason, servedMs } = await this.#runOnce(signal);
      if (signal.aborted) break;
      if (servedMs >= RAN_WELL_MS) failures = 0;
      const inMs = restartDelayMs(failures, random());
      failures += 1;
      this.#state = { kind: "down", reason, retryAt: clock.now() + inMs };
      this.#tell({ kind: "restarting", inMs: Math.round(inMs) });
      await clock.sleep(inMs, signal).catch(() => {});
    }
    this.#state = { kind: "closed" };
    this.#tell({ kind: "stopped" });
  }

  /** From one start to the end that follows it. Why it ended, and how long it served before. */
  async #runOnce(signal: AbortSignal): Promise<{ readonly reason: string; readonly servedMs: number }> {
    const { clock } = this.#options;
    const started = new AbortController();
    let servesSince: number | undefined;
    this.#state = { kind: "starting", over: started.signal };
    const reason = await runPlugin({
      ...this.#options,
      program: this.#program,
      files: this.#files,
      signal,
      onEvent: (event) => this.#tell(event),
      onServing: (transport) => {
        servesSince = clock.now();
        this.#state = { kind: "serving", transport };
        started.abort();
      },
      onDown: (reason) => {
        this.#state = signal.aborted ? { kind: "closed" } : { kind: "down", reason, retryAt: undefined };
        started.abort();
      },
    });
    return { reason, servedMs: servesSince === undefined ? 0 : clock.now() - servesSince };
  }

  #tell(event: ExecEvent): void {
    this.#options.onEvent(this.#options.settings.name, event);
  }

  #notServing(state: State): UpstreamError {
    const { settings, clock } = this.#options;
    const cannot = `Cannot call ${settings.name} at ${this.target}`;
    if (state.kind !== "down") return new UpstreamError("connection", `${cannot}: it is closed`);
    const waitMs = state.retryAt === undefined ? 0 : Math.max(0, Math.ceil(state.retryAt - clock.now()));
    const when = state.retryAt === undefined ? "" : ` in ${waitMs} ms`;
    return new UpstreamError("connection", `${cannot}: ${state.reason}; it is started again${when}`);
  }
}

/** Resolves when one of them has aborted. */
function eitherAborts(one: AbortSignal, other: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      one.removeEventListener("abort", done);
      other.removeEventListener("abort", done);
      resolve();
    };
    one.addEventListener("abort", done);
    other.addEventListener("abort", done);
    if (one.aborted || other.aborted) done();
  });
}
