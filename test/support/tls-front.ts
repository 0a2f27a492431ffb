import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, createServer as createTcpServer, type Socket } from "node:net";
import { createServer, type Server } from "node:tls";
import { listen } from "./listen.ts";

/** Who may be shown by a front, from test/support/certificates. */
export type Certificate = "server" | "expired" | "other-name";

export interface TlsFrontOptions {
  /** Of the server behind it, which speaks no TLS. */
  readonly port: number;
  readonly certificate: Certificate;
  /** Whether clients have to show a certificate of the same authority. */
  readonly wantsClientCertificate?: boolean;
  /** Whether TLS begins once it was asked for, as clients of Postgres do, and not at once. */
  readonly isAskedFor?: boolean;
}

/** A server over TLS that takes it off, and passes on what is left. */
export interface TlsFront extends AsyncDisposable {
  readonly port: number;
}

/** The path of a PEM file in test/support/certificates. */
export function certificatePath(file: string): string {
  return new URL(`certificates/${file}`, import.meta.url).pathname;
}

export async function openTlsFront({
  port,
  certificate,
  wantsClientCertificate = false,
  isAskedFor = false,
}: TlsFrontOptions): Promise<TlsFront> {
  const [cert, key, ca] = await Promise.all(
    [`${certificate}.pem`, `${certificate}.key`, "ca.pem"].map((file) => readFile(certificatePath(file))),
  );
  const open = new Set<Socket>();
  const server = createServer(
    {
      ...{ cert, key, ca, ALPNProtocols: ["h2", "http/1.1"] },
      ...{ requestCert: wantsClientCertificate, rejectUnauthorized: wantsClientCertificate },
    },
    (client) => {
      const behind = connect({ port, host: "127.0.0.1" });
      for (const socket of [client, behind]) {
        open.add(socket);
        socket.on("error", () => {});
        socket.once("close", () => {
          open.delete(socket);
          client.destroy();
          behind.destroy();
        });
      }
      client.pipe(behind);
      // As fast as it comes: a client that reads slowly has it wait in its own machine.
      behind.on("data", (bytes) => void client.write(bytes));
      behind.once("end", () => client.end());
    },
  );
  const listener = isAskedFor ? createTcpServer((client) => grantTls(client, server)) : server;
  return {
    port: await listen(listener),
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      listener.close();
      await once(listener, "close");
    },
  };
}

/** Whatever a client says first is taken for the request that Postgres answers with a single letter. */
function grantTls(client: Socket, server: Server): void {
  client.on("error", () => {});
  client.once("data", () => {
    client.write("S");
    server.emit("connection", client);
  });
}
