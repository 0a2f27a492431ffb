import type { Command } from "commander";
import { type Address, formatAddress } from "../config/address.ts";
import { addAddress, findAddress } from "./address-option.ts";
import { askDaemon, type Reply } from "./ask-daemon.ts";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { printJson, printRows } from "./print.ts";
import { toPrintable } from "./text-width.ts";

interface Options {
  readonly check?: boolean;
  readonly reset?: string;
  readonly json?: boolean;
}

/** `pbflagd upstreams`: the upstreams of the running daemon, and how they do. */
export function addUpstreams(program: Command, io: Io): void {
  const command = program
    .command("upstreams")
    .description("Show the upstreams of a running daemon in proxy mode, and how they do.")
    .option("--check", "have the daemon check them all first")
    .option("--reset <name>", "close the circuit breaker of one, and forget its last error")
    .option("--json", "print an array of objects; with --reset, one object")
    .addHelpText(
      "after",
      `
Examples:
  pbflagd upstreams
  pbflagd upstreams --check --json
  pbflagd upstreams --reset root-b`,
    );
  addAddress(command).action(async ({ check = false, reset, json = false }: Options) => {
    if (check && reset !== undefined)
      throw new CommandError(2, "--check and --reset exclude each other: reset first, then check");
    if (reset === "") throw new CommandError(2, 'expected the name of an upstream, got ""');
    const address = await findAddress(command, io);
    if (reset !== undefined) {
      const { upstream } = await ask(address, "ResetUpstream", { name: reset }, io);
      if (json) printJson(io, isWire(upstream) ? toUpstream(upstream) : null);
      else io.stdout(`${toPrintable(reset)}: breaker closed, last error forgotten\n`);
      return;
    }
    const { upstreams } = await ask(address, check ? "CheckUpstreams" : "ListUpstreams", {}, io);
    printRows(io, Array.isArray(upstreams) ? upstreams.filter(isWire).map(toUpstream) : [], {
      json,
      columns: COLUMNS,
      none: "This daemon reads a database: it has no upstreams.",
    });
  });
}

type Answer = Readonly<Record<string, unknown>>;

/** One RPC of `pbflagd.v1.UpstreamService`. */
async function ask(address: Address, method: string, body: object, io: Io): Promise<Answer> {
  const path = `/pbflagd.v1.UpstreamService/${method}`;
  return readAnswer(
    await askDaemon(address, { method: "POST", path, body }, io.clock),
    formatAddress(address),
  );
}

/** As `--json` prints it. Null: not known, or there is none. */
interface Upstream {
  readonly name: string;
  readonly target: string;
  readonly state: string;
  readonly kind: string | null;
  readonly score: number;
  readonly breaker: string;
  readonly inFlight: number;
  readonly latencyMs: number | null;
  readonly status: string | null;
  readonly version: Version | null;
  readonly lastError: string | null;
  readonly lastErrorAt: string | null;
  readonly checkedAt: string | null;
  readonly priority: number;
  readonly weight: number;
}

interface Version {
  readonly epoch: string;
  readonly revision: number;
}

const COLUMNS: Readonly<Record<string, (upstream: Upstream) => string>> = {
  NAME: ({ name }) => name,
  TARGET: ({ target }) => target,
  STATE: ({ state }) => state,
  KIND: ({ kind }) => kind ?? "-",
  SCORE: ({ score }) => String(score),
  BREAKER: ({ breaker }) => breaker,
  "IN FLIGHT": ({ inFlight }) => String(inFlight),
  LATENCY: ({ latencyMs }) => (latencyMs === null ? "-" : `${latencyMs.toFixed(1)} ms`),
  STATUS: ({ status }) => status ?? "-",
  // The epoch is long, and the same for all of a pool: who is of another one is refused.
  VERSION: ({ version }) => (version === null ? "-" : String(version.revision)),
  "LAST ERROR": ({ lastError }) => lastError ?? "-",
};

/** `pbflagd.v1.Upstream` in proto3's JSON, which leaves out what is empty or zero. */
type Wire = Answer & { readonly name: string };

function isWire(value: unknown): value is Wire {
  return typeof value === "object" && value !== null && "name" in value && typeof value.name === "string";
}

function toUpstream(wire: Wire): Upstream {
  return {
    name: wire.name,
    target: textOf(wire["target"]) ?? "",
    state: wordOf(wire["state"], "UPSTREAM_STATE_") ?? "unknown",
    kind: wordOf(wire["kind"], "UPSTREAM_KIND_"),
    score: numberOf(wire["score"]) ?? 0,
    breaker: wordOf(wire["breaker"], "BREAKER_STATE_") ?? "unknown",
    inFlight: numberOf(wire["inFlight"]) ?? 0,
    latencyMs: numberOf(wire["latencyMs"]),
    status: wordOf(wire["status"], "EVALUATOR_STATUS_"),
    version: versionOf(wire["version"]),
    lastError: textOf(wire["lastError"]),
    lastErrorAt: textOf(wire["lastErrorAt"]),
    checkedAt: textOf(wire["checkedAt"]),
    priority: numberOf(wire["priority"]) ?? 0,
    weight: numberOf(wire["weight"]) ?? 0,
  };
}

function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}

/** `BREAKER_STATE_HALF_OPEN` to `half-open`, as the metrics call it. */
function wordOf(value: unknown, prefix: string): string | null {
  return typeof value === "string" ? value.replace(prefix, "").replaceAll("_", "-").toLowerCase() : null;
}

function versionOf(value: unknown): Version | null {
  if (typeof value !== "object" || value === null || !("epoch" in value)) return null;
  // An int64, which JSON holds as a text.
  return { epoch: String(value.epoch), revision: "revision" in value ? Number(value.revision) : 0 };
}

/** The message of a good answer. Fails with what the daemon said, or with what answers there instead. */
function readAnswer({ status, body }: Reply, place: string): Answer {
  const answer = parseJson(body);
  if (status === 200 && answer !== undefined) return answer;
  const code = textOf(answer?.["code"]);
  const message = textOf(answer?.["message"]) ?? "";
  // Another evaluator does not know the RPC, and says so in one of two ways.
  if (code === null || code === "unimplemented") {
    throw new CommandError(
      1,
      `Cannot ask for upstreams: no pbflagd that could have them answers at ${place}, got HTTP ${status}`,
    );
  }
  if (code === "not_found") throw new CommandError(1, message);
  const exitCode = { invalid_argument: 2, unavailable: 3 }[code] ?? 1;
  throw new CommandError(exitCode, `Cannot ask for upstreams: ${code}: ${message}`);
}

function parseJson(body: string): Answer | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
