import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { listen } from "./listen.ts";
import { passOn } from "./pass-on.ts";

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
    passOn(asked, answer, port);
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
