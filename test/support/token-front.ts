import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, request } from "node:http";
import { listen } from "./listen.ts";

export interface TokenFrontOptions {
  /** Of the server behind it, which lets everybody in. */
  readonly port: number;
  /** Whom to let in. */
  readonly admits: (headers: IncomingHttpHeaders) => boolean;
}

/** A server over HTTP/1.1 that answers 401 to strangers, and passes on what others ask. */
export interface TokenFront extends AsyncDisposable {
  readonly port: number;
}

export async function openTokenFront({ port, admits }: TokenFrontOptions): Promise<TokenFront> {
  const server = createServer((asked, answer) => {
    if (!admits(asked.headers)) {
      asked.resume();
      answer.writeHead(401, { "content-type": "text/plain" }).end("who are you?\n");
      return;
    }
    const { method, url, headers } = asked;
    const passedOn = request({ host: "127.0.0.1", port, method, path: url, headers }, (response) => {
      answer.writeHead(response.statusCode ?? 502, response.headers);
      response.pipe(answer);
    });
    passedOn.on("error", () => answer.destroy());
    asked.pipe(passedOn);
  });
  return {
    port: await listen(server),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
