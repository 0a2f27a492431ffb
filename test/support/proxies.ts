import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { StateService } from "../../src/gen/pbflagd/v1/state_pb.ts";
import { PATIENCE } from "../daemon/scene.ts";
import { startDaemon, type TestDaemon } from "./daemon.ts";

/** Settings of a pool whose upstreams are well, be the machine as busy as it may. */
export const PATIENT_POOL = {
  health_check: { interval: "1s", timeout: "1s" },
  defaults: { connection: { connect_timeout: "5s" } },
};

/** One of `upstreams.servers`, as the file has it. */
export type ServerSettings = Readonly<Record<string, unknown>> & { readonly url: string };

/** The file of a proxy with a short memory before these upstreams: in a second it knows what changed. */
export function poolFile(
  { descriptors }: { readonly descriptors: string },
  servers: readonly ServerSettings[],
  {
    pool = {},
    cache = {},
  }: {
    readonly pool?: Readonly<Record<string, unknown>>;
    readonly cache?: Readonly<Record<string, string>>;
  } = {},
) {
  return {
    descriptors,
    cache: { fetch_timeout: PATIENCE, kill_ttl: "1s", flag_ttl: "2s", override_ttl: "2s", ...cache },
    health: { interval: "100ms" },
    upstreams: { ...PATIENT_POOL, ...pool, servers },
  };
}

/** Arguments of a proxy before one upstream; the same short memory. */
export function proxyArgs(url: string, { descriptors }: { readonly descriptors: string }): readonly string[] {
  const settings = {
    server: url,
    descriptors,
    "cache-fetch-timeout": PATIENCE,
    "cache-kill-ttl": "1s",
    "cache-flag-ttl": "2s",
    "cache-override-ttl": "2s",
    "health-interval": "100ms",
  };
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
}

/** Starts another daemon where one was that has ended: whoever knew its address finds it again. */
export function startAt(port: number, args: readonly string[]): Promise<TestDaemon> {
  return startDaemon({ args: ["--listen", `127.0.0.1:${port}`, ...args] });
}

/** Asks a daemon for what it hands on to others. */
export function stateClient({ url }: Pick<TestDaemon, "url">): Client<typeof StateService> {
  return createClient(StateService, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
}
