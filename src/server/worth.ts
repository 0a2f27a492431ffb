import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { canExist, canHaveOverrides } from "../evaluation/ids.ts";
import { formatVersion, parseVersion, type Version } from "../evaluation/version.ts";
import type { FlagTable } from "../flags/definition.ts";
import { answerFrom, type Reaching, type ReachOptions, type Rows } from "./reach-version.ts";

/** In an answer: the version that the daemon has caught up with, as `epoch:revision`. */
export const VERSION = "pbflags-version";
/** In an answer: how long ago the database was read at that version. */
export const AGE = "pbflags-state-age-ms";
/** In a request: not to be answered from an older version. */
export const MIN_VERSION = "pbflags-min-version";

/** What is needed of a call. */
export type Call = Pick<HandlerContext, "requestHeader" | "responseHeader" | "signal">;

/** What answers are worth that are made now, as their headers say it. */
export interface WorthNow {
  readonly version: string;
  readonly ageMs: string;
}

/** Says of answers what they are worth, and has them wait where a caller asks for more. */
export interface Worth {
  /** Undefined where the store has no versions, or nothing is known yet. */
  now(): WorthNow | undefined;

  /**
   * Sets an answer's headers. To be called before the answer is made: it is at least as new as they say. None where
   * the store has no versions, or nothing is known yet.
   */
  tell(call: Call): void;

  /**
   * Tells, then answers: at once, unless the caller asks for a version. `isPlain`: the entity is known to have no
   * overrides. Rejects with INVALID_ARGUMENT if what is asked for is no version, and with FAILED_PRECONDITION if it
   * is not reached in time.
   */
  answer<T>(call: Call, rows: () => Rows, answer: (isPlain: boolean) => T | Promise<T>): T | Promise<T>;
}

export function createWorth(options: ReachOptions): Worth {
  const { namespace, clock } = options;
  const textOf = rememberText();

  function now(): WorthNow | undefined {
    const known = namespace.killSet.value;
    const version = textOf(known?.stamp.version);
    if (known === undefined || version === undefined) return undefined;
    return { version, ageMs: String(Math.max(0, Math.round(clock.now() - known.readAt))) };
  }

  function tell({ responseHeader }: Call): void {
    const worth = now();
    if (worth === undefined) return;
    responseHeader.set(VERSION, worth.version);
    responseHeader.set(AGE, worth.ageMs);
  }

  async function answerAtLeast<T>(
    version: Version,
    call: Call,
    rows: () => Rows,
    answer: (isPlain: boolean) => T | Promise<T>,
  ): Promise<T> {
    const wanted = {
      version,
      rows,
      answer(isPlain: boolean) {
        tell(call);
        return answer(isPlain);
      },
    };
    const reached = await answerFrom(wanted, options, call.signal);
    if (reached.kind === "answered") return reached.value;
    tell(call);
    throw new ConnectError(
      `Cannot answer at version ${formatVersion(version)} or later: ${describeKnown(version, options.namespace)}`,
      Code.FailedPrecondition,
    );
  }

  return {
    now,
    tell,
    answer(call, rows, answer) {
      const version = minVersionOf(call.requestHeader);
      if (version !== undefined) return answerAtLeast(version, call, rows, answer);
      tell(call);
      return answer(false);
    },
  };
}

/** What an evaluation is made from. A killed flag needs no row. */
export function evaluationRows(
  { flags, killSet }: Pick<Reaching, "flags" | "killSet">,
  flagIds: readonly string[],
  entityId: string,
): Rows {
  const table = flags.value;
  const killed = killSet.value?.flagIds;
  const ids = new Set(flagIds.map((flagId) => table.find(flagId)?.id ?? flagId));
  const asked = [...ids].filter((id) => killed?.has(id) !== true && canExist(id));
  const varies = asked.some((id) => variesByEntity(table, id));
  return { flagIds: asked, entityId: varies && canHaveOverrides(entityId) ? entityId : undefined };
}

function variesByEntity(table: FlagTable, flagId: string): boolean {
  const definition = table.find(flagId);
  return definition !== undefined && definition.layer !== "";
}

/** A version's text, made once for each: a kill set serves many answers. Undefined for what no header can carry. */
function rememberText(): (version: Version | undefined) => string | undefined {
  let last: { readonly version: Version; readonly text: string | undefined } | undefined;
  return (version) => {
    if (version === undefined) return undefined;
    if (last?.version !== version) {
      const text = formatVersion(version);
      last = { version, text: IN_A_HEADER.test(text) ? text : undefined };
    }
    return last.text;
  };
}

/** Visible characters, but no comma: two headers of one name arrive joined by one. */
const IN_A_HEADER = /^[!-+\--~]{1,200}:\d{1,15}$/;

const SHOWN_MAX = 100;

function minVersionOf(header: Headers): Version | undefined {
  const text = header.get(MIN_VERSION);
  if (text === null) return undefined;
  const version = IN_A_HEADER.test(text) ? parseVersion(text) : undefined;
  if (version !== undefined) return version;
  const shown = text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text;
  throw new ConnectError(
    `Cannot use ${MIN_VERSION}: expected epoch:revision as feature_flags.version() tells it, got ${JSON.stringify(shown)}`,
    Code.InvalidArgument,
  );
}

function describeKnown(asked: Version, { killSet }: Pick<Reaching, "killSet">): string {
  const known = killSet.value;
  if (known === undefined) return "nothing is known of the store yet";
  const { version } = known.stamp;
  if (version === undefined) return "the store has no versions";
  const text = formatVersion(version);
  if (version.epoch !== asked.epoch) return `the store is of another epoch, at ${text}`;
  if (version.revision < asked.revision) return `this daemon is at ${text}`;
  return `this daemon is at ${text}, but has not read yet what changed`;
}
