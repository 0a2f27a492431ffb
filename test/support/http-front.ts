import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { listen } from "./listen.ts";

/** A server over HTTP/1.1 on this machine, before others. */
export interface HttpFront extends AsyncDisposable {
  readonly port: number;
}

export async function openHttpFront(answer: RequestListener): Promise<HttpFront> {
  const server = createServer(answer);
  return {
    port: await listen(server),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
