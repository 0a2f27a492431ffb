import { runCli } from "../cli/run-cli.ts";

/** One upstream, as `pbflagd upstreams --json` has it. */
export interface ListedUpstream {
  readonly name: string;
  readonly target: string;
  readonly state: string;
  readonly kind: string | null;
  readonly score: number;
  readonly breaker: string;
  readonly status: string | null;
  readonly lastError: string | null;
  readonly latencyMs: number | null;
  readonly version: { readonly epoch: string; readonly revision: number } | null;
}

/** The upstreams of a running proxy by name, as an operator is told of them. */
export async function listUpstreams({
  port,
}: {
  readonly port: number;
}): Promise<Readonly<Record<string, ListedUpstream>>> {
  const { exitCode, stdout, stderr } = await runCli([
    "upstreams",
    "--json",
    "--address",
    `127.0.0.1:${port}`,
  ]);
  if (exitCode !== 0) throw new Error(stderr);
  const upstreams = JSON.parse(stdout) as ListedUpstream[];
  return Object.fromEntries(upstreams.map((upstream) => [upstream.name, upstream]));
}
