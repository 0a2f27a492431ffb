import { connect, type Socket } from "node:net";
import { EVALUATE_PATH, type Question, type Sender } from "./load.ts";

interface Waiting {
  readonly question: Question;
  readonly resolve: (answer: { readonly status: number; readonly body: string }) => void;
  readonly reject: (error: Error) => void;
}

/**
 * HTTP/1.1 over a fixed number of kept-alive connections, one request at a time on each, in as few instructions as
 * it takes: at thousands of requests a second Node's own client would be busier than the server.
 */
export function rawSender(port: number, connectionCount = 64): Sender {
  const queue: Waiting[] = [];
  const lines = Array.from({ length: connectionCount }, () => openLine(port, queue));
  return {
    send: (question) =>
      new Promise((resolve, reject) => {
        queue.push({ question, resolve, reject });
        lines.find(({ isIdle }) => isIdle())?.next();
      }),
    close() {
      for (const line of lines) line.close();
    },
  };
}

/** A connection that is opened again for the next question where the server has closed it while it rested. */
function openLine(port: number, queue: Waiting[]) {
  let current: Waiting | undefined;
  let received = "";
  let socket = open();

  function open(): Socket {
    received = "";
    const opened: Socket = connect({ port, host: "127.0.0.1", noDelay: true });
    opened.setEncoding("latin1");
    opened.on("data", (text: string) => {
      received += text;
      const answer = parse(received);
      if (answer === undefined) return;
      received = "";
      current?.resolve(answer);
      next();
    });
    opened.on("error", (error) => fail(opened, error));
    opened.on("close", () => fail(opened, new Error("the connection was closed")));
    return opened;
  }

  function next(): void {
    current = queue.shift();
    if (current === undefined) return;
    if (socket.destroyed) socket = open();
    socket.write(toRequest(current.question));
  }

  function fail(failed: Socket, error: Error): void {
    if (failed !== socket) return;
    current?.reject(error);
    current = undefined;
  }

  return { next, isIdle: () => current === undefined, close: () => socket.destroy() };
}

function toRequest(question: Question): string {
  const body = JSON.stringify(question);
  return `POST ${EVALUATE_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

/** Undefined: not all of it is there yet. */
function parse(text: string): { readonly status: number; readonly body: string } | undefined {
  const bodyAt = text.indexOf("\r\n\r\n") + 4;
  if (bodyAt < 4) return undefined;
  const [, length] = /^content-length: (\d+)/im.exec(text.slice(0, bodyAt)) ?? [];
  if (length === undefined) throw new Error(`Cannot tell how long an answer is: ${text.slice(0, bodyAt)}`);
  if (text.length < bodyAt + Number(length)) return undefined;
  return { status: Number(text.slice(9, 12)), body: Buffer.from(text.slice(bodyAt), "latin1").toString() };
}
