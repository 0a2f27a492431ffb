import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import type { Server } from "node:net";

/** What a bare server writes, by the path that it is asked under. */
export type Answers = Readonly<Record<string, { readonly contentType: string; readonly base64: string }>>;

/** The ceiling: Node itself, which reads the body and writes bytes that were ready before. */
export function serveBareHttp1(answersPath: string): Server {
  const answers = loadAnswers(answersPath);
  return createServer((request, response) => {
    request.on("data", () => {});
    request.on("end", () => {
      const { head, body } = answers.get(request.url ?? "") ?? NO_ANSWER;
      response.writeHead(200, head).end(body);
    });
  });
}

/** The same over HTTP/2, with the trailers that gRPC needs. */
export function serveBareHttp2(answersPath: string): Server {
  const answers = loadAnswers(answersPath);
  const server = createHttp2Server();
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    stream.on("data", () => {});
    stream.on("end", () => {
      const { contentType, body } = answers.get(headers[":path"] ?? "") ?? NO_ANSWER;
      stream.respond({ ":status": 200, "content-type": contentType }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(body);
    });
  });
  return server;
}

interface Answer {
  readonly contentType: string;
  readonly head: string[];
  readonly body: Buffer;
}

const NO_ANSWER = toAnswer({ contentType: "text/plain", base64: "" });

function loadAnswers(path: string): ReadonlyMap<string, Answer> {
  const answers: Answers = JSON.parse(readFileSync(path, "utf8"));
  return new Map(Object.entries(answers).map(([key, answer]) => [key, toAnswer(answer)]));
}

function toAnswer({ contentType, base64 }: Answers[string]): Answer {
  const body = Buffer.from(base64, "base64");
  return { contentType, body, head: ["content-type", contentType, "content-length", String(body.length)] };
}
