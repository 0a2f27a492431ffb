import { type IncomingMessage, request, type ServerResponse } from "node:http";

/** Has a server on this machine answer a request, over HTTP/1.1. */
export function passOn(asked: IncomingMessage, answer: ServerResponse, port: number): void {
  const { method, url, headers } = asked;
  const passedOn = request({ host: "127.0.0.1", port, method, path: url, headers }, (response) => {
    answer.writeHead(response.statusCode ?? 502, response.headers);
    response.pipe(answer);
  });
  passedOn.on("error", () => answer.destroy());
  answer.on("close", () => passedOn.destroy());
  asked.pipe(passedOn);
}
