import { Agent } from "node:http";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { FlagAdminService } from "../../src/gen/pbflags/v1/admin_pb.ts";

/** The ways in which generated clients speak to the admin service. */
export const ADMIN_CLIENT_KINDS = [
  "Connect, proto",
  "Connect, JSON",
  "Connect GET",
  "gRPC",
  "gRPC-web",
] as const;

export type AdminClientKind = (typeof ADMIN_CLIENT_KINDS)[number];
export type AdminClient = Client<typeof FlagAdminService>;

export interface AdminClients extends Disposable {
  readonly of: Readonly<Record<AdminClientKind, AdminClient>>;
}

/** A generated client of each kind. */
export function openAdminClients(port: number): AdminClients {
  const baseUrl = `http://127.0.0.1:${port}`;
  const agent = new Agent({ keepAlive: true });
  const sessions = new Http2SessionManager(baseUrl);
  const http1 = { baseUrl, httpVersion: "1.1" as const, nodeOptions: { agent } };
  const over = (transport: Transport) => createClient(FlagAdminService, transport);
  return {
    of: {
      "Connect, proto": over(createConnectTransport({ ...http1, useBinaryFormat: true })),
      "Connect, JSON": over(createConnectTransport({ ...http1, useBinaryFormat: false })),
      "Connect GET": over(createConnectTransport({ ...http1, useBinaryFormat: true, useHttpGet: true })),
      gRPC: over(createGrpcTransport({ baseUrl, sessionManager: sessions })),
      "gRPC-web": over(createGrpcWebTransport(http1)),
    },
    [Symbol.dispose]() {
      agent.destroy();
      sessions.abort();
    },
  };
}
