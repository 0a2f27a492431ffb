import { expect, test, vi } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { DeadlineError } from "../upstream/transport/deadline.ts";
import type { PostgresConnection } from "./postgres-connection.ts";
import { PostgresSessions, SessionsClosedError } from "./postgres-sessions.ts";

test("a call ends with its deadline, whether it uses a session or waits for one, and leaves nothing behind", async () => {
  const { sessions, clock } = openSessions({ size: 1 });
  const useForEver = () => sessions.call((signal) => sessions.use(() => untilAborted(signal), signal));
  const inUse = useForEver().catch((error: unknown) => error);
  await clock.advance(299);
  expect(clock.sleeperCount).toBe(1);
  await clock.advance(1);
  expect(await inUse).toBeInstanceOf(DeadlineError);

  const owner = new AbortController();
  const owned = sessions.use(() => untilAborted(owner.signal), owner.signal);
  const waiting = useForEver().catch((error: unknown) => error);
  await clock.advance(300);
  expect(await waiting).toBeInstanceOf(DeadlineError);
  owner.abort(new Error("enough"));
  await expect(owned).rejects.toThrow("enough");
  expect(await sessions.call((signal) => sessions.use(async () => "next", signal))).toBe("next");
  expect(clock.sleeperCount).toBe(0);
});

test("closed, it ends what is under way at once, and refuses what comes after", async () => {
  const { sessions } = openSessions({ size: 1 });
  const calls = [1, 2].map(() => sessions.call((signal) => sessions.use(() => untilAborted(signal), signal)));
  const ended = Promise.allSettled(calls);
  await settle();
  await sessions[Symbol.asyncDispose]();
  for (const result of await ended) {
    expect(result).toMatchObject({ status: "rejected", reason: expect.any(SessionsClosedError) });
  }
  const late = vi.fn<() => Promise<void>>();
  await expect(sessions.call(late)).rejects.toThrow("the daemon is stopping");
  expect(late).not.toHaveBeenCalled();
});

test.for([
  [300, 300],
  [5_000, 1_000],
])(
  "with a deadline of %i ms a server that says no goodbye is waited for %i ms",
  async ([timeoutMs = 0, goodbyeMs = 0]) => {
    const { sessions, clock } = openSessions({ size: 1, timeoutMs, isSilent: true });
    await sessions.call((signal) => sessions.use(async () => {}, signal));
    const closed = vi.fn<() => void>();
    const closing = sessions[Symbol.asyncDispose]().then(closed);
    await clock.advance(goodbyeMs - 1);
    expect(closed).not.toHaveBeenCalled();
    await clock.advance(1);
    await closing;
  },
);

interface SceneOptions {
  readonly size: number;
  readonly timeoutMs?: number;
  readonly isSilent?: boolean;
}

function openSessions({ size, timeoutMs = 300, isSilent = false }: SceneOptions) {
  const clock = new FakeClock();
  const open = async () => createSession(isSilent);
  return { clock, sessions: new PostgresSessions({ size, open, timeoutMs, clock }) };
}

/** A session that is only there or not; a silent one does not answer when it is closed. */
function createSession(isSilent: boolean): PostgresConnection {
  let isOpen = true;
  let end = () => {};
  const closed = new Promise<void>((resolve) => {
    end = resolve;
  });
  const destroy = () => {
    isOpen = false;
    end();
  };
  return {
    get isOpen() {
      return isOpen;
    },
    late: undefined,
    closed,
    query: () => Promise.resolve([]),
    async close() {
      if (!isSilent) destroy();
      await closed;
    },
    destroy,
  };
}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
