import type { Command } from "commander";
import { formatVersion, isAtLeast, parseVersion, type Version } from "../evaluation/version.ts";
import { formatTimestamp } from "../system/timestamp.ts";
import { addAddress, findAddress } from "./address-option.ts";
import { CommandError } from "./failure.ts";
import { followDaemon } from "./follow-daemon.ts";
import type { Io } from "./io.ts";
import { toPrintable } from "./text-width.ts";

interface Options {
  readonly heartbeats?: boolean;
  readonly json?: boolean;
  readonly since?: string;
}

const PATH = "/pbflagd.v1.WatchService/Watch";
/** Until the daemon has said how often it is heard. */
const SILENCE_MAX_MS = 5_000;

/** `pbflagd watch`: what changes, as the running daemon learns it. */
export function addWatch(program: Command, io: Io): void {
  const command = program
    .command("watch")
    .description("Print what changes, one line an event, until Ctrl-C or until the daemon stops.")
    .option("--since <version>", "first only what changed after this version, as epoch:revision")
    .option("--heartbeats", "print also that nothing has changed, every two seconds")
    .option("--json", "print one object a line")
    .addHelpText(
      "after",
      `
Examples:
  pbflagd watch
  pbflagd watch --json | jq -r '.kills.flagIds[]?'
  pbflagd watch --address unix:///run/pbflagd.sock --heartbeats`,
    );
  addAddress(command).action(async ({ heartbeats = false, json = false, since }: Options) => {
    const known = since === undefined ? undefined : parseSince(since);
    const address = await findAddress(command, io);
    const signal = io.interrupted();
    let silenceMaxMs = SILENCE_MAX_MS;
    let isFirst = true;
    const question = {
      path: PATH,
      body: known === undefined ? {} : { since: { ...known, revision: String(known.revision) } },
      silenceMaxMs: () => silenceMaxMs,
    };
    for await (const message of followDaemon(address, question, { clock: io.clock, signal })) {
      if (!isWire(message)) continue;
      const heartbeatMs = numberOf(message["heartbeatIntervalMs"]);
      if (heartbeatMs !== null) silenceMaxMs = 2 * heartbeatMs;
      const event = toEvent(message, formatTimestamp(io.clock.wallNow()));
      if (isFirst && known !== undefined && isBehind(event, known)) {
        const [here, wanted] = [event.version ?? "", formatVersion(known)].map(toPrintable);
        io.stderr(
          `notice: the daemon knows ${here}, which is older: nothing is told until it knows ${wanted}\n`,
        );
      }
      isFirst = false;
      if (event.event === "heartbeat" && !heartbeats) continue;
      io.stdout(`${json ? JSON.stringify(event) : toPrintable(toLine(event))}\n`);
    }
  });
}

function parseSince(text: string): Version {
  const version = parseVersion(text);
  if (version === undefined)
    throw new CommandError(2, `--since: expected a version as epoch:revision, got ${JSON.stringify(text)}`);
  return version;
}

/** As `--json` prints it. Null: not known, or not told because it is as it was. */
interface Event {
  /** When it was heard here. */
  readonly at: string;
  readonly event: "everything" | "changed" | "heartbeat";
  /** As `epoch:revision`. */
  readonly version: string | null;
  readonly ageMs: number;
  readonly committedAgoMs: number | null;
  readonly flagIds: readonly string[] | null;
  readonly entityIds: readonly string[] | null;
  readonly kills: Kills | null;
}

interface Kills {
  readonly flagIds: readonly string[];
  readonly overrides: readonly { readonly flagId: string; readonly entityId: string }[];
}

/** Whether the daemon has less to tell than is known already. */
function isBehind({ event, version }: Event, known: Version): boolean {
  const here = version === null ? undefined : parseVersion(version);
  return event === "heartbeat" && isAtLeast(known, here);
}

/** `pbflagd.v1.WatchResponse` in proto3's JSON, which leaves out what is empty or zero. */
type Wire = Readonly<Record<string, unknown>>;

function isWire(value: unknown): value is Wire {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function toEvent(wire: Wire, at: string): Event {
  const { resync, changed } = wire;
  const told = isWire(resync) ? resync : isWire(changed) ? changed : undefined;
  const changes = told?.["changes"];
  return {
    at,
    event: isWire(resync) ? "everything" : isWire(changed) ? "changed" : "heartbeat",
    version: versionOf(wire["version"]),
    ageMs: numberOf(wire["ageMs"]) ?? 0,
    committedAgoMs: numberOf(wire["committedAgoMs"]),
    flagIds: isWire(changes) ? textsOf(changes["flagIds"]) : null,
    entityIds: isWire(changes) ? textsOf(changes["entityIds"]) : null,
    kills: killsOf(told?.["kills"]),
  };
}

/** An int64, which JSON holds as a text. */
function numberOf(value: unknown): number | null {
  return typeof value === "string" || typeof value === "number" ? Number(value) : null;
}

function versionOf(value: unknown): string | null {
  if (!isWire(value)) return null;
  const { epoch, revision } = value;
  return `${typeof epoch === "string" ? epoch : ""}:${numberOf(revision) ?? 0}`;
}

function textsOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

function killsOf(value: unknown): Kills | null {
  if (!isWire(value)) return null;
  const overrides: unknown = value["killedOverrides"];
  return {
    flagIds: textsOf(value["flagIds"]),
    overrides: (Array.isArray(overrides) ? overrides : [])
      .filter(isWire)
      .map(({ flagId, entityId }) => ({ flagId: String(flagId), entityId: String(entityId) })),
  };
}

/** More of them stand in `--json`. */
const NAMED_MAX = 20;

function toLine({ at, event, version, flagIds, entityIds, kills }: Event): string {
  const parts = [
    ...(flagIds === null || flagIds.length === 0 ? [] : [`flags: ${list(flagIds)}`]),
    ...(entityIds === null || entityIds.length === 0 ? [] : [`entities: ${list(entityIds)}`]),
    ...(kills === null
      ? []
      : [
          `killed: ${list([...kills.flagIds, ...kills.overrides.map((each) => `${each.flagId} for ${each.entityId}`)])}`,
        ]),
  ];
  // The epoch is long, and the same for years.
  const revision = version === null ? "-" : version.slice(version.lastIndexOf(":") + 1);
  return `${at}  ${event.padEnd("everything".length)}  ${revision}  ${parts.join("; ") || "-"}`;
}

function list(names: readonly string[]): string {
  if (names.length === 0) return "none";
  const more = names.length > NAMED_MAX ? ` and ${names.length - NAMED_MAX} more` : "";
  return `${names.slice(0, NAMED_MAX).join(", ")}${more}`;
}
