import { Agent, request } from "node:http";
import { type ClientHttp2Session, connect } from "node:http2";
import type { Socket } from "node:net";
import { setTimeout } from "node:timers/promises";

/** One Evaluate to be sent. */
export interface Question {
  readonly flagId: string;
  readonly entityId: string;
}

/** What became of one Evaluate. */
export interface Reply {
  readonly question: Question;
  /** On the scale of `performance.now()`. */
  readonly sentAt: number;
  /** Until the answer was there, less what this process was too busy to notice. */
  readonly latencyMs: number;
  /** 0: no answer came. */
  readonly status: number;
  readonly source: string;
  /** As JSON; "" for none. */
  readonly value: string;
  /** Why no answer came: an error code. */
  readonly failure: string | undefined;
}

export interface LoadOptions {
  readonly requestsPerSecond: number;
  /** The question with this number, from 0. */
  readonly ask: (n: number) => Question;
  readonly sender: Sender;
}

/** Requests that are sent at their times, whether or not earlier ones have been answered. */
export interface Load {
  /** In the order in which they came. */
  readonly replies: readonly Reply[];
  /** Requests that wait for an answer right now. */
  readonly pendingCount: number;
  /** Stops asking, and resolves with all replies once the last has come. Closes the sender. */
  stop(): Promise<readonly Reply[]>;
}

/** A way to send an Evaluate. Rejects if no answer comes. */
export interface Sender {
  send(question: Question): Promise<{ readonly status: number; readonly body: string }>;
  close(): void;
}

/** Where an Evaluate goes to. */
export const EVALUATE_PATH = "/pbflags.v1.FlagEvaluatorService/Evaluate";
const headers = { "content-type": "application/json" };
const TICK_MS = 5;
const GIVE_UP_MS = 20_000;
/** Shorter ones are the ordinary business of sending. */
const STALL_MIN_MS = 20;

export function startLoad({ requestsPerSecond, ask, sender }: LoadOptions): Load {
  const replies: Reply[] = [];
  const pending = new Set<Promise<unknown>>();
  const stop = new AbortController();
  const stalls = new Stalls();
  const running = run();

  async function run(): Promise<void> {
    const startedAt = performance.now();
    for (let sent = 0; !stop.signal.aborted; ) {
      const tickAt = performance.now();
      const due = ((tickAt - startedAt) * requestsPerSecond) / 1_000;
      for (; sent < due; sent++) send(ask(sent));
      await setTimeout(TICK_MS);
      stalls.record(tickAt + TICK_MS, performance.now());
    }
  }

  function send(question: Question): void {
    const one = exchange(question).then((reply) => replies.push(reply));
    pending.add(one);
    void one.finally(() => pending.delete(one));
  }

  async function exchange(question: Question): Promise<Reply> {
    const sentAt = performance.now();
    try {
      const { status, body } = await sender.send(question);
      return { question, sentAt, latencyMs: latency(sentAt), failure: undefined, ...parse(status, body) };
    } catch (error) {
      const failure = codeOf(error);
      return { question, sentAt, latencyMs: latency(sentAt), status: 0, source: "", value: "", failure };
    }
  }

  function latency(sentAt: number): number {
    const now = performance.now();
    return now - sentAt - stalls.between(sentAt, now);
  }

  return {
    replies,
    get pendingCount() {
      return pending.size;
    },
    async stop() {
      stop.abort();
      await running;
      await Promise.all(pending);
      sender.close();
      return replies;
    },
  };
}

function parse(status: number, body: string): Pick<Reply, "status" | "source" | "value"> {
  const answer = JSON.parse(body) as { source?: string; value?: unknown };
  const value = answer.value === undefined ? "" : JSON.stringify(answer.value);
  return { status, source: answer.source ?? "", value };
}

/** What failed at the bottom of it: HTTP/2 cancels the streams of a connection that was refused. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.cause instanceof Error) return codeOf(error.cause);
  const [, http2Code] = /error code (NGHTTP2_\w+)/.exec(error.message) ?? [];
  return http2Code ?? ("code" in error ? String(error.code) : error.message);
}

/** When this process, or the machine under it, did not get round to anything: an answer may have lain there unread. */
class Stalls {
  #known: { readonly from: number; readonly to: number }[] = [];

  record(from: number, to: number): void {
    if (to - from < STALL_MIN_MS) return;
    this.#known.push({ from, to });
    // Longer ago than any request takes.
    if (this.#known.length > 10_000) this.#known = this.#known.slice(-5_000);
  }

  between(start: number, end: number): number {
    let sum = 0;
    for (let i = this.#known.length - 1; i >= 0; i--) {
      const stall = this.#known[i];
      if (stall === undefined || stall.to <= start) break;
      sum += Math.max(0, Math.min(stall.to, end) - Math.max(stall.from, start));
    }
    return sum;
  }
}

/**
 * The connection was made by the system and reset without a word: the server had stopped before it took it in.
 * Whether a client sees this or ECONNREFUSED is a matter of microseconds.
 */
export const NOT_LET_IN = "NOT_LET_IN";

/** Idle for longer, a connection may be closed by the server at the very moment at which it is used again. */
const IDLE_MS = 150;

/** A client's usual limit: what is sent beyond it waits for its turn, and the wait counts. */
const CONNECTIONS_MAX = 200;

/** HTTP/1.1 over as many kept-alive connections as there are requests at a time, but 200 at most. */
export function http1Sender(port: number): Sender {
  const agent = new Agent({
    keepAlive: true,
    noDelay: true,
    maxSockets: CONNECTIONS_MAX,
    maxFreeSockets: CONNECTIONS_MAX,
    timeout: GIVE_UP_MS,
  });
  const idleSince = new WeakMap<Socket, number>();

  function send(question: Question): ReturnType<Sender["send"]> {
    return new Promise((resolve, reject) => {
      let idleMs = 0;
      let used: Socket | undefined;
      const options = { agent, host: "127.0.0.1", port, method: "POST", path: EVALUATE_PATH, headers };
      const sent = request(options, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.once("error", reject);
        response.once("end", () => {
          if (used !== undefined) idleSince.set(used, performance.now());
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() });
        });
      });
      sent.once("socket", (socket) => {
        used = socket;
        idleMs = performance.now() - (idleSince.get(socket) ?? performance.now());
      });
      sent.once("error", (error: NodeJS.ErrnoException) => {
        if (error.code !== "ECONNRESET") reject(error);
        else if (!sent.reusedSocket)
          reject(Object.assign(new Error("reset on arrival"), { code: NOT_LET_IN }));
        // As every client of HTTP/1.1 does it.
        else if (idleMs > IDLE_MS) resolve(send(question));
        else reject(error);
      });
      sent.once("timeout", () => sent.destroy(new Error("no answer")));
      sent.end(JSON.stringify(question));
    });
  }

  return { send, close: () => agent.destroy() };
}

/** HTTP/2, all requests on one connection; on another as soon as the server says that no more are to come on it. */
export function http2Sender(port: number): Sender {
  let current: ClientHttp2Session | undefined;

  function session(): ClientHttp2Session {
    if (current !== undefined) return current;
    const opened = connect(`http://127.0.0.1:${port}`);
    const leave = () => {
      if (current === opened) current = undefined;
    };
    opened.on("error", leave);
    opened.on("goaway", leave);
    opened.on("close", leave);
    current = opened;
    return opened;
  }

  function sendOnce(question: Question): ReturnType<Sender["send"]> {
    return new Promise((resolve, reject) => {
      const stream = session().request({ ":method": "POST", ":path": EVALUATE_PATH, ...headers });
      const chunks: Buffer[] = [];
      let status = 0;
      stream.on("response", (received) => {
        status = received[":status"] ?? 0;
      });
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.once("error", reject);
      stream.once("close", () => {
        if (status === 0) reject(new Error(`no answer, stream closed with ${stream.rstCode}`));
        else resolve({ status, body: Buffer.concat(chunks).toString() });
      });
      stream.setTimeout(GIVE_UP_MS, () => stream.destroy(new Error("no answer")));
      stream.end(JSON.stringify(question));
    });
  }

  return {
    async send(question) {
      try {
        return await sendOnce(question);
      } catch (error) {
        // Never begun: the farewell came between the decision to send and the sending. Clients send it elsewhere.
        if (codeOf(error) !== "NGHTTP2_REFUSED_STREAM") throw error;
        return await sendOnce(question);
      }
    },
    close: () => current?.close(),
  };
}

/** For a line in a report, in milliseconds. */
export function describeLatencies(replies: readonly Reply[]): string {
  const sorted = replies.map(({ latencyMs }) => latencyMs).toSorted((a, b) => a - b);
  const at = (share: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0).toFixed(1);
  return `${sorted.length} requests, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, p99.9 ${at(0.999)} ms, max ${at(1)} ms`;
}
