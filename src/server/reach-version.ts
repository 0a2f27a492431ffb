import { isAtLeast, type Version } from "../evaluation/version.ts";
import type { KnownRow, Namespace } from "../namespaces/namespace.ts";
import type { Clock } from "../system/clock.ts";

/** What is asked of a namespace to learn how far it is. */
export type Reaching = Pick<Namespace, "flags" | "killSet" | "catchUp" | "flagRows" | "overrideRows">;

export interface ReachOptions {
  readonly namespace: Reaching;
  /** Longest wait, for the answer too. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** Rows that an answer is made from beside the kill set. */
export interface Rows {
  readonly flagIds: readonly string[];
  /** Undefined: nobody's overrides. */
  readonly entityId: string | undefined;
}

/** What is to be answered from a version on. */
export interface AnswerFrom<T> {
  readonly version: Version;
  /** Asked again where the kill set has changed meanwhile. */
  readonly rows: () => Rows;
  /** `isPlain`: the store holds no overrides of the entity, so that they need not be looked up. */
  readonly answer: (isPlain: boolean) => T | Promise<T>;
}

export type Reached<T> =
  | { readonly kind: "answered"; readonly value: T }
  /** Not in time, or never: the store is another one. */
  | { readonly kind: "not_reached" };

const NOT_REACHED = { kind: "not_reached" } as const;

/** Between two looks at rows that are being read. */
const ROWS_REST_MS = 25;

/**
 * Waits until kill set and rows are of a version or later, and answers from them. Where the store cannot bring that
 * version it is asked again until the time is up: a replica may lag. Rejects if `caller` aborts, with its reason.
 */
export async function answerFrom<T>(
  wanted: AnswerFrom<T>,
  { namespace, timeoutMs, clock }: ReachOptions,
  caller: AbortSignal,
): Promise<Reached<T>> {
  caller.throwIfAborted();
  const done = new AbortController();
  const end = () => done.abort();
  caller.addEventListener("abort", end, { once: true });
  clock.sleep(timeoutMs, done.signal).then(end, () => {});
  const late = new Promise<typeof NOT_REACHED>((resolve) => {
    done.signal.addEventListener("abort", () => resolve(NOT_REACHED), { once: true });
  });
  try {
    const reached = await Promise.race([reach(wanted, { namespace, clock }, done.signal), late]);
    if (reached.kind === "not_reached") caller.throwIfAborted();
    return reached;
  } finally {
    caller.removeEventListener("abort", end);
    end();
  }
}

type Parts = Omit<ReachOptions, "timeoutMs">;

async function reach<T>(wanted: AnswerFrom<T>, parts: Parts, signal: AbortSignal): Promise<Reached<T>> {
  if (!(await reachKillSet(wanted.version, parts, signal))) return NOT_REACHED;
  return reachRows(wanted, parts, signal);
}

async function reachKillSet(
  version: Version,
  { namespace, clock }: Parts,
  signal: AbortSignal,
): Promise<boolean> {
  const beganAt = clock.now();
  while (!signal.aborted) {
    if (await namespace.catchUp(version, signal)) return true;
    const killSet = namespace.killSet.value;
    const isSameEpoch = killSet?.stamp.version?.epoch === version.epoch;
    // What was read since is another store's: asking on brings nothing.
    if (killSet !== undefined && !isSameEpoch && killSet.readAt >= beganAt) return false;
  }
  return false;
}

async function reachRows<T>(
  { version, rows, answer }: AnswerFrom<T>,
  { namespace, clock }: Parts,
  signal: AbortSignal,
): Promise<Reached<T>> {
  const { flags, killSet } = namespace;
  while (!signal.aborted) {
    const [flagsBefore, killsBefore] = [flags.value, killSet.value];
    const { flagIds, entityId } = rows();
    const [states, overrides] = await Promise.all([
      namespace.flagRows(flagIds),
      namespace.overrideRows(entityId === undefined ? [] : [entityId]),
    ]);
    if (signal.aborted) break;
    // Another flag may have to be looked at now.
    if (flags.value !== flagsBefore || killSet.value !== killsBefore) continue;
    if ([...states, ...overrides].every((row) => holdsFrom(row, version))) {
      // Nothing may come between looking and answering. A full memory has forgotten already who has no overrides,
      // and whoever asks again may meet a replica that lags.
      return { kind: "answered", value: await answer(overrides.some(isAbsent)) };
    }
    await clock.sleep(ROWS_REST_MS, signal).catch(() => {});
  }
  return NOT_REACHED;
}

function holdsFrom(row: KnownRow<unknown>, version: Version): boolean {
  return row.kind === "known" && isAtLeast(row.version, version);
}

function isAbsent(row: KnownRow<unknown>): boolean {
  return row.kind === "known" && row.value === undefined;
}
