import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { type Percentiles, percentiles } from "./load.ts";

/** A whole HTTP/1.1 request, as Latin-1, and a word that its answer must hold. */
export interface PacedRequest {
  readonly text: string;
  readonly expects: string;
}

export interface PaceOptions {
  readonly port: number;
  /** In turn. */
  readonly requests: readonly PacedRequest[];
  readonly perSecond: number;
  readonly seconds: number;
}

/** How the answers were. */
export interface Paced {
  readonly count: number;
  /** Not answered, or not as expected. */
  readonly wrong: number;
  /** From when a request was due, whether or not it could be sent then, to its answer. */
  readonly latencyMs: Percentiles & { readonly max: number };
}

const CONNECTIONS = 64;
/** Whoever has not answered by then after the last request does not answer. */
const GIVE_UP_MS = 10_000;

/**
 * Sends requests at their times, whether or not earlier ones have been answered, and counts from those times: what waits
 * behind a slow answer is slow too. Never sleeps: who sleeps is late.
 */
export async function pace({ port, requests, perSecond, seconds }: PaceOptions): Promise<Paced> {
  const total = perSecond * seconds;
  const latenciesMs = new Float64Array(total);
  const due: number[] = [];
  let answered = 0;
  let wrong = 0;
  let asked = 0;

  const lines = new Set<Line>();
  /** The one that has rested longest first: a server closes those that rest for long. */
  const idle: Line[] = [];
  const open = async () => {
    const line = await openLine(port, { onAnswer, onClose });
    lines.add(line);
    idle.push(line);
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, open));

  function count({ dueAt, request }: Line, text: string | undefined): void {
    latenciesMs[answered++] = performance.now() - dueAt;
    if (text?.startsWith("HTTP/1.1 200") !== true || !text.includes(request?.expects ?? "")) wrong += 1;
  }

  function onAnswer(line: Line, text: string): void {
    count(line, text);
    line.request = undefined;
    idle.push(line);
    sendDue();
  }

  function onClose(line: Line): void {
    if (!lines.delete(line)) return;
    if (line.request === undefined) idle.splice(idle.indexOf(line), 1);
    else count(line, undefined);
    // A server that takes no more connections answers no more requests: those are counted.
    open().catch(() => {});
  }

  function sendDue(): void {
    while (due.length > 0) {
      const line = idle.shift();
      if (line === undefined) return;
      line.send(requests[asked++ % requests.length], due.shift() ?? 0);
    }
  }

  const startedAt = performance.now();
  const endsAt = startedAt + seconds * 1_000;
  let fallenDue = 0;
  const isDone = () => answered === total || performance.now() > endsAt + GIVE_UP_MS;
  while (!isDone()) {
    const now = performance.now();
    for (; fallenDue < total; fallenDue++) {
      const dueAt = startedAt + (fallenDue * 1_000) / perSecond;
      if (dueAt > now) break;
      due.push(dueAt);
    }
    sendDue();
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const line of lines) {
    lines.delete(line);
    line.close();
  }
  const missing = total - answered;
  // Whoever never answered took the longest.
  latenciesMs.fill(Infinity, answered);
  const latencyMs = percentiles(latenciesMs, 1);
  return {
    count: total,
    wrong: wrong + missing,
    latencyMs: { ...latencyMs, max: latenciesMs.at(-1) ?? Number.NaN },
  };
}

interface LineEvents {
  readonly onAnswer: (line: Line, text: string) => void;
  readonly onClose: (line: Line) => void;
}

/** A kept-alive connection with at most one request on it. */
class Line {
  request: PacedRequest | undefined;
  dueAt = 0;
  readonly #socket: Socket;
  #received = "";

  constructor(socket: Socket, { onAnswer, onClose }: LineEvents) {
    this.#socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      // Unasked, a server says only why it closes.
      if (this.request === undefined) return;
      this.#received += text;
      if (!isWhole(this.#received)) return;
      const answer = this.#received;
      this.#received = "";
      onAnswer(this, answer);
    });
    socket.on("error", () => {});
    socket.on("close", () => onClose(this));
  }

  send(request: PacedRequest | undefined, dueAt: number): void {
    this.request = request;
    this.dueAt = dueAt;
    this.#socket.write(request?.text ?? "", "latin1");
  }

  close(): void {
    this.#socket.destroy();
  }
}

async function openLine(port: number, events: LineEvents): Promise<Line> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  return new Line(socket, events);
}

function isWhole(text: string): boolean {
  const bodyAt = text.indexOf("\r\n\r\n") + 4;
  if (bodyAt < 4) return false;
  const [, length] = /^content-length: (\d+)/im.exec(text.slice(0, bodyAt)) ?? [];
  if (length === undefined) throw new Error(`Cannot tell how long an answer is: ${text.slice(0, bodyAt)}`);
  return text.length >= bodyAt + Number(length);
}
