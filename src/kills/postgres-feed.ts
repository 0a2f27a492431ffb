import {
  describeTarget,
  openPostgresConnection,
  type PostgresConnection,
  reasonOf,
} from "../store/postgres-connection.ts";
import { LISTEN, READ_LISTENING } from "../store/postgres-statements.ts";
import { Alarm } from "../system/alarm.ts";
import { withDeadline } from "../upstream/transport/deadline.ts";
import type { ChangeFeed, ChangeFeedOptions } from "./change-feed.ts";
import { type KeepFollowingOptions, keepFollowing, type Progress } from "./keep-following.ts";
import { NoticeInbox } from "./notice-inbox.ts";

export interface PostgresFeedOptions extends ChangeFeedOptions, Pick<KeepFollowingOptions, "startsAfter"> {
  /** Of the database itself: behind a pooler that shares sessions out, nobody can listen. */
  readonly url: string;
}

interface ListeningRow {
  readonly session: number;
  readonly listens: boolean;
  readonly announces: boolean;
}

/** A peer that vanished without a word is noticed after both of these at the latest. */
const HEARTBEAT_MS = 2_000;
const ANSWER_TIMEOUT_MS = 2_000;

/**
 * Hears from Postgres, on a session of its own, that a transaction which changed state has committed. Needs no right
 * but to connect. Throws a StoreError only for a URL that cannot be one.
 */
export function openPostgresFeed(options: PostgresFeedOptions): ChangeFeed {
  const target = describeTarget(options.url);
  return keepFollowing({
    ...options,
    async follow(progress, signal) {
      try {
        return await listen(options, progress, signal);
      } catch (error) {
        throw new Error(`Cannot listen at ${target}: ${reasonOf(error)}`, { cause: error });
      }
    },
  });
}

async function listen(options: PostgresFeedOptions, progress: Progress, signal: AbortSignal): Promise<never> {
  const { clock } = options;
  const soon = <T>(run: (signal: AbortSignal) => Promise<T>) =>
    withDeadline({ timeoutMs: ANSWER_TIMEOUT_MS, clock, outer: signal }, (deadline) => run(deadline.signal));

  const connection = await openListener(options, signal);
  const ask = (text: string) =>
    soon((deadline) => connection.query<ListeningRow>({ text, values: [], name: undefined }, deadline));
  try {
    await ask(LISTEN);
    const { session } = confirm(await ask(READ_LISTENING));
    progress.connected();
    // Whatever changed before was told to nobody.
    options.onNotice({ version: undefined });
    const alarm = new Alarm(clock);
    void connection.closed.then(() => alarm.ring());
    for (;;) {
      await alarm.wait(HEARTBEAT_MS, signal);
      signal.throwIfAborted();
      if (!connection.isOpen) throw (await connection.closed) ?? new Error("the session has ended");
      confirm(await ask(READ_LISTENING), session);
      progress.settled();
    }
  } finally {
    connection.destroy();
    await connection.closed;
  }
}

function openListener(
  { url, onNotice, clock }: PostgresFeedOptions,
  signal: AbortSignal,
): Promise<PostgresConnection> {
  const inbox = new NoticeInbox(onNotice);
  return openPostgresConnection(
    {
      url,
      applicationName: "pbflagd listen",
      statementTimeoutMs: undefined,
      silenceMs: ANSWER_TIMEOUT_MS,
      clock,
      onNotification: (notification) => inbox.hear(notification),
    },
    signal,
  );
}

/** Throws unless notices will come, and on this very session where it is known. */
function confirm([row]: readonly ListeningRow[], session = row?.session): ListeningRow {
  if (row === undefined) throw new Error("the database answered without a row");
  if (!row.listens || row.session !== session)
    throw new Error("a pooler shares out the session, set `database_listen` to the database itself");
  if (!row.announces) throw new Error("the database announces no changes, run `pbflagd migrate`");
  return row;
}
