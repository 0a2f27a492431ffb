import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { connect, type Socket } from "node:net";
import { setImmediate } from "node:timers/promises";
import type { GeneratedCall } from "./generated-calls.ts";

/** What a call was answered with, in a form that can be compared. The date is left out. */
export interface CallAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly trailers: Readonly<Record<string, string>>;
}

/**
 * Sends calls in as few instructions as it takes: HTTP/2 over one session, HTTP/1.1 pipelined, half of it over one socket
 * and half over sockets that have brought few calls before.
 */
export interface CallLine extends Disposable {
  /** One answer for each call, in their order. All are under way at a time. */
  send(calls: readonly GeneratedCall[]): Promise<readonly CallAnswer[]>;
}

export async function openCallLine(port: number): Promise<CallLine> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  await once(session, "connect");
  const pipeline = await openPipeline(port);
  return {
    async send(calls) {
      const answers = new Map<GeneratedCall, CallAnswer>();
      const http1 = calls.filter(({ http }) => http === "1.1");
      const others = calls.filter(({ http }) => http === "2");
      const half = Math.ceil(http1.length / 2);
      const few = inGroups(http1.slice(half), CALLS_ON_A_NEW_SOCKET);
      const all = [
        pipeline.send(http1.slice(0, half)),
        ...few.map((group) => sendOnNewSocket(port, group)),
        ...others.map(async (call) => [await sendHttp2(session, call)]),
      ];
      for (const [i, answer] of (await Promise.all(all)).flat().entries()) {
        const call = [...http1, ...others][i];
        if (call !== undefined) answers.set(call, answer);
      }
      return calls.map((call) => answers.get(call) ?? NO_ANSWER);
    },
    [Symbol.dispose]() {
      session.destroy();
      pipeline.socket.destroy();
    },
  };
}

const NO_ANSWER: CallAnswer = { status: 0, headers: {}, body: "", trailers: {} };

const CALLS_ON_A_NEW_SOCKET = 4;

function inGroups<T>(items: readonly T[], length: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / length) }, (_, i) =>
    items.slice(i * length, (i + 1) * length),
  );
}

/** The first of them comes in two pieces. */
async function sendOnNewSocket(
  port: number,
  calls: readonly GeneratedCall[],
): Promise<readonly CallAnswer[]> {
  const pipeline = await openPipeline(port);
  const [first] = calls;
  const firstLength = first === undefined ? 0 : toHttp1(first).length;
  const answers = await pipeline.send(calls, Math.floor(firstLength / 2));
  pipeline.socket.destroy();
  return answers;
}

interface Pipeline {
  readonly socket: Socket;
  /** `cutAt`: where to cut what is sent. */
  send(calls: readonly GeneratedCall[], cutAt?: number): Promise<readonly CallAnswer[]>;
}

async function openPipeline(port: number): Promise<Pipeline> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  socket.setEncoding("latin1");
  await once(socket, "connect");
  let received = "";
  let at = 0;
  let waiting: ((answer: CallAnswer) => void)[] = [];
  socket.on("data", (text: string) => {
    received = received.slice(at) + text;
    at = 0;
    for (;;) {
      const parsed = waiting.length === 0 ? undefined : parseAnswer(received, at);
      if (parsed === undefined) return;
      at = parsed.end;
      waiting.shift()?.(parsed.answer);
    }
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    for (const settle of waiting) settle(NO_ANSWER);
    waiting = [];
  });
  return {
    socket,
    async send(calls, cutAt = 0) {
      const all = calls.map(() => new Promise<CallAnswer>((resolve) => waiting.push(resolve)));
      const bytes = Buffer.concat(calls.map(toHttp1));
      socket.write(bytes.subarray(0, cutAt));
      await setImmediate();
      socket.write(bytes.subarray(cutAt));
      return Promise.all(all);
    },
  };
}

function toHttp1({ method, path, headers, body }: GeneratedCall): Buffer {
  const lines = Object.entries({ host: "a", ...headers, "content-length": String(body.length) }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  return Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`), body]);
}

/** Undefined: not all of it is there yet. */
function parseAnswer(
  text: string,
  start: number,
): { readonly answer: CallAnswer; readonly end: number } | undefined {
  const bodyAt = text.indexOf("\r\n\r\n", start) + 4;
  if (bodyAt < 4) return undefined;
  const [statusLine = "", ...lines] = text.slice(start, bodyAt - 4).split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon).toLowerCase();
    if (name !== "date") headers[name] = line.slice(colon + 2);
  }
  const body = parseBody(text, bodyAt, headers);
  if (body === undefined) return undefined;
  return {
    answer: { status: Number(statusLine.slice(9, 12)), headers, trailers: {}, body: body.text },
    end: body.end,
  };
}

function parseBody(
  text: string,
  start: number,
  headers: Readonly<Record<string, string>>,
): { readonly text: string; readonly end: number } | undefined {
  if (headers["transfer-encoding"] === undefined) {
    const end = start + Number(headers["content-length"] ?? 0);
    return end > text.length ? undefined : { text: text.slice(start, end), end };
  }
  let body = "";
  for (let at = start; ; ) {
    const lineEnd = text.indexOf("\r\n", at);
    if (lineEnd === -1) return undefined;
    const length = Number.parseInt(text.slice(at, lineEnd), 16);
    const end = lineEnd + 2 + length + 2;
    if (end > text.length) return undefined;
    body += text.slice(lineEnd + 2, end - 2);
    at = end;
    if (length === 0) return { text: body, end };
  }
}

function sendHttp2(session: ClientHttp2Session, call: GeneratedCall): Promise<CallAnswer> {
  return new Promise((resolve) => {
    const { method, path, headers, body } = call;
    const stream = session.request({ ":method": method, ":path": path, ...headers });
    let status = 0;
    let answered: Record<string, string> = {};
    let trailers: Record<string, string> = {};
    let text = "";
    stream.setEncoding("latin1");
    stream.on("response", ({ ":status": code = 0, ...rest }) => {
      status = code;
      answered = toTexts(rest);
      delete answered["date"];
    });
    stream.on("trailers", (received) => {
      trailers = toTexts(received);
    });
    stream.on("data", (chunk: string) => {
      text += chunk;
    });
    stream.on("error", () => {});
    stream.on("close", () => {
      const reset = stream.rstCode === constants.NGHTTP2_NO_ERROR ? {} : { reset: String(stream.rstCode) };
      resolve({ status, headers: answered, body: text, trailers: { ...trailers, ...reset } });
    });
    if (body.length > 0) stream.end(body);
    else stream.end();
  });
}

function toTexts(headers: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}
