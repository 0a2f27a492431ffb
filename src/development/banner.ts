import { type Address, formatAddress } from "../config/address.ts";
import type { Config } from "../config/settings.ts";
import type { FlagTable } from "../flags/definition.ts";

/** What a newcomer needs to know about a running `pbflagd dev`. */
export interface BannerFacts {
  /** Where the evaluator listens. */
  readonly address: Address;
  readonly config: Pick<Config, "dataDir"> & { readonly database: string };
  /** Where the embedded database keeps its data; undefined if the database is not ours. */
  readonly dataDir: string | undefined;
  readonly flags: Pick<FlagTable, "features" | "flags" | "find">;
}

/** A flag of the examples that says at a glance whether it was killed. */
const FLAG_TO_TRY = "notifications/1";

/** Where commands look for the daemon that are told nothing. */
const LISTEN_DEFAULT = "localhost:9201";

/** Addresses, and four commands to try. */
export function renderBanner(facts: BannerFacts): string {
  const { address, config, dataDir, flags } = facts;
  const { url, curl, option } = clientOf(address);
  const flagId = (flags.find(FLAG_TO_TRY) ?? flags.flags[0])?.id ?? FLAG_TO_TRY;
  const body = `'{"flagId":"${flagId}"}'`;
  const evaluate = `${curl}/pbflags.v1.FlagEvaluatorService/Evaluate -H 'content-type: application/json' -d ${body}`;
  return [
    "",
    "  pbflagd is serving: Connect, gRPC and gRPC-web on one port",
    "",
    `    evaluator   ${url}`,
    `    database    ${config.database}`,
    ...(dataDir === undefined ? [] : [`    data        ${dataDir}`]),
    `    flags       ${counted(flags.flags.length, "flag")} in ${counted(flags.features.length, "feature")}`,
    "",
    "  Try, in another terminal:",
    "",
    "    # ask for a flag",
    `    ${evaluate}`,
    "    # kill it, with psql or, where there is none, with",
    `    npx pbflagd sql ${optionsOf(facts)}"SELECT feature_flags.kill('${flagId}')"`,
    "    # ask again: KILLED",
    `    ${evaluate}`,
    `    # see what happened; "npx pbflagd watch${option}" prints changes as they come`,
    `    ${curl}/metrics | grep pbflags_`,
    "",
    "  Ctrl-C ends it. The data stays for the next start.",
    "",
    "",
  ].join("\n");
}

interface Client {
  readonly url: string;
  /** The beginning of a command. */
  readonly curl: string;
  /** What tells pbflagd's own commands; nothing where they find it by themselves. */
  readonly option: string;
}

/** How to get to an address from the same machine. */
function clientOf(address: Address): Client {
  if (address.kind === "unix") {
    const url = formatAddress(address);
    return {
      url,
      curl: `curl -s --unix-socket ${quote(address.path)} http://localhost`,
      option: ` --address ${quote(url)}`,
    };
  }
  const isEverywhere = ["", "::", "0.0.0.0"].includes(address.host);
  const at = formatAddress(isEverywhere ? { ...address, host: "localhost" } : address);
  const option = at === LISTEN_DEFAULT ? "" : ` --address ${quote(at)}`;
  return { url: `http://${at}`, curl: `curl -s ${at}`, option };
}

/** What tells `pbflagd sql` where the database is; nothing where it finds it by itself. */
function optionsOf({ config, dataDir }: BannerFacts): string {
  if (dataDir === undefined) return `--database ${quote(config.database)} `;
  return config.dataDir === ".pbflagd" ? "" : `--data-dir ${quote(config.dataDir)} `;
}

function quote(text: string): string {
  return /^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}
