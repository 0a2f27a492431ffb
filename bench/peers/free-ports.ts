import { once } from "node:events";
import { createServer } from "node:net";
import { listen } from "../../test/support/listen.ts";

/** Different ports of loopback on which nobody listens right now: for programs that have to be told. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(servers.map(listen));
  for (const server of servers) {
    server.close();
    await once(server, "close");
  }
  return ports;
}
