import { once } from "node:events";
import { createServer } from "node:http";
import { listen } from "./listen.ts";
import { passOn } from "./pass-on.ts";

/** Several servers over HTTP/1.1 under one address, as behind a load balancer. */
export interface SplitFront extends AsyncDisposable {
  readonly port: number;
}

/** `portOf` says by its path who answers a request. */
export async function openSplitFront(portOf: (path: string) => number): Promise<SplitFront> {
  const server = createServer((asked, answer) => passOn(asked, answer, portOf(asked.url ?? "")));
  return {
    port: await listen(server),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
