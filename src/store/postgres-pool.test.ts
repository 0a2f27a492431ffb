import { describe, expect, test, vi } from "vitest";
import { settle } from "../../test/support/fake-clock.ts";
import { seededRandom } from "../../test/support/seeded-random.ts";
import type { PostgresConnection } from "./postgres-connection.ts";
import { PostgresPool } from "./postgres-pool.ts";

/** A session that is only there or not. */
function createSession(): PostgresConnection {
  let isOpen = true;
  const end = () => {
    isOpen = false;
  };
  return {
    get isOpen() {
      return isOpen;
    },
    late: undefined,
    closed: new Promise<never>(() => {}),
    query: () => Promise.resolve([]),
    close: () => Promise.resolve(end()),
    destroy: end,
  };
}

function createPool(size: number) {
  const opened: PostgresConnection[] = [];
  const pool = new PostgresPool({
    size,
    open: () => {
      const session = createSession();
      opened.push(session);
      return Promise.resolve(session);
    },
  });
  return { pool, opened };
}

const never = new AbortController().signal;

test("sessions are used again, and no more are opened than there is room for", async () => {
  const { pool, opened } = createPool(2);
  let atWork = 0;
  let most = 0;
  const use = async () => {
    most = Math.max(most, ++atWork);
    await settle();
    atWork -= 1;
  };
  await Promise.all(Array.from({ length: 10 }, () => pool.run(use, never)));
  expect([most, opened.length]).toEqual([2, 2]);
});

test("callers are served in the order they came, and one that gives up leaves the line", async () => {
  const { pool } = createPool(1);
  const served: string[] = [];
  let release = () => {};
  const blocking = pool.run(
    () =>
      new Promise<void>((resolve) => {
        release = resolve;
      }),
    never,
  );
  const impatient = new AbortController();
  const serve = (name: string) => () => {
    served.push(name);
    return Promise.resolve();
  };
  const waiting = [
    pool.run(serve("one"), never),
    pool.run(serve("gone"), impatient.signal),
    pool.run(serve("two"), never),
  ];
  await settle();
  impatient.abort(new Error("too long"));
  release();
  const results = await Promise.allSettled([blocking, ...waiting]);
  expect(results.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
  expect(served).toEqual(["one", "two"]);
});

test("a session that ended is not handed out again, whoever noticed", async () => {
  const { pool, opened } = createPool(1);
  await pool.run(async (session) => session.destroy(), never);
  await pool.run(async () => {}, never);
  opened[1]?.destroy();
  await pool.run(async () => {}, never);
  expect(opened.length).toBe(3);
});

test("a failure to open, or to use, gives the place back", async () => {
  let tries = 0;
  const pool = new PostgresPool({
    size: 1,
    open: () => (++tries === 1 ? Promise.reject(new Error("no way")) : Promise.resolve(createSession())),
  });
  await expect(pool.run(async () => 1, never)).rejects.toThrow("no way");
  await expect(pool.run(() => Promise.reject(new Error("no use")), never)).rejects.toThrow("no use");
  expect(await pool.run(async () => 3, never)).toBe(3);
  expect(tries).toBe(2);
});

test("a session whose answer is late is handed on when it has come, and has its place until then", async () => {
  const { pool, opened } = createPool(1);
  let come = () => {};
  await pool.run(async (session) => {
    const late = new Promise<void>((resolve) => {
      come = resolve;
    });
    Object.assign(session, { late });
  }, never);
  const next = ask(pool);
  await settle();
  expect(opened.length).toBe(1);
  come();
  expect(await next.served).toBe(opened[0]);
});

describe("a server that takes longer to open a session than callers have", () => {
  test("what nobody waits for any more is there for the next, who opens none", async () => {
    const { pool, openings } = createSlowPool(1);
    const impatient = ask(pool);
    impatient.giveUp();
    expect(await impatient.ended).toEqual(TOO_LONG);
    const opened = createSession();
    openings[0]?.resolve(opened);
    await settle();
    const next = ask(pool);
    expect(await next.served).toBe(opened);
    expect(openings.length).toBe(1);
  });

  test("what is opened goes to who has waited longest by then, and no more are opened than are waited for", async () => {
    const { pool, openings } = createSlowPool(2);
    const gone = ask(pool);
    gone.giveUp();
    await gone.ended;
    const first = ask(pool);
    expect(openings.length).toBe(1);
    const second = ask(pool);
    const [a, b] = [createSession(), createSession()];
    openings[0]?.resolve(a);
    expect(await first.served).toBe(a);
    openings[1]?.resolve(b);
    expect(await second.served).toBe(b);
    expect(openings.length).toBe(2);
  });

  test("a failure is told to the first who waited when it was begun; who came later has a try of his own", async () => {
    const { pool, openings } = createSlowPool(1);
    const told = ask(pool);
    const gone = ask(pool);
    openings[0]?.reject(new Error("refused"));
    expect(await told.ended).toEqual(new Error("refused"));
    expect(openings.length).toBe(2);
    gone.giveUp();
    const last = ask(pool);
    openings[1]?.reject(new Error("refused again"));
    expect(await gone.ended).toEqual(TOO_LONG);
    await settle();
    expect(openings.length).toBe(3);
    const opened = createSession();
    openings[2]?.resolve(opened);
    expect(await last.served).toBe(opened);
  });

  test("however many give up, no more are being opened than there is room for", async () => {
    const { pool, openings } = createSlowPool(2);
    for (let i = 0; i < 10; i++) {
      const [one, another] = [ask(pool), ask(pool)];
      one.giveUp();
      another.giveUp();
      await Promise.all([one.ended, another.ended]);
    }
    expect(openings.length).toBe(2);
    openings[0]?.reject(new Error("silent for too long"));
    await settle();
    // Nobody waits.
    expect(openings.length).toBe(2);
    ask(pool);
    ask(pool);
    expect(openings.length).toBe(3);
  });

  test("whoever comes, gives up, is refused or loses what he has: there are never too many, and all who wait are served", async () => {
    const random = seededRandom(1);
    const alive = new Set<PostgresConnection>();
    const openings: Opening[] = [];
    const pool = new PostgresPool({
      size: 3,
      open: () =>
        new Promise<PostgresConnection>((resolve, reject) => {
          openings.push({ resolve, reject });
        }),
    });
    const count = () => {
      for (const session of alive) if (!session.isOpen) alive.delete(session);
      return alive.size + openings.length;
    };
    const callers: ReturnType<typeof ask>[] = [];
    const at = (items: readonly unknown[]): number => Math.floor(random() * items.length);
    const open = () => {
      const session = createSession();
      if (openings.length > 0) alive.add(session);
      openings.splice(at(openings), 1)[0]?.resolve(session);
    };
    const acts = [
      () => void callers.push(ask(pool)),
      () => void callers.push(ask(pool)),
      () => callers[at(callers)]?.giveUp(),
      () => callers[at(callers)]?.finish(),
      open,
      () => openings.splice(at(openings), 1)[0]?.reject(new Error("refused")),
      () => [...alive][at([...alive])]?.destroy(),
      () => pool.dropIdle(),
    ];
    for (let i = 0; i < 2_000; i++) {
      acts[at(acts)]?.();
      await Promise.resolve();
      expect(count()).toBeLessThanOrEqual(3);
    }
    const done = vi.fn<() => void>();
    for (const caller of callers) void caller.ended.finally(done);
    for (let i = 0; done.mock.calls.length < callers.length && i < 10_000; i++) {
      open();
      for (const caller of callers) caller.finish();
      await settle();
    }
    expect(done).toHaveBeenCalledTimes(callers.length);
  });

  test("closed, it ends what is lent, gives up what is being opened, and keeps nothing that comes all the same", async () => {
    const { pool, openings } = createSlowPool(3);
    const [user, waiting, gone] = [ask(pool), ask(pool), ask(pool)];
    gone.giveUp();
    const [lent, late] = [createSession(), createSession()];
    openings[0]?.resolve(lent);
    expect(await user.served).toBe(lent);
    await pool.close(never);
    expect(lent.isOpen).toBe(false);
    expect(await waiting.ended).toEqual(new Error("the sessions are closed"));
    openings[2]?.resolve(late);
    await settle();
    expect(late.isOpen).toBe(false);
  });
});

const TOO_LONG = new Error("too long");

interface Opening {
  readonly resolve: (session: PostgresConnection) => void;
  readonly reject: (error: Error) => void;
}

/** A pool whose sessions are there when the test says so. The third and those after it ignore that they are given up. */
function createSlowPool(size: number) {
  const openings: Opening[] = [];
  const open = (signal: AbortSignal) =>
    new Promise<PostgresConnection>((resolve, reject) => {
      if (openings.push({ resolve, reject }) < 3)
        signal.addEventListener("abort", () => reject(signal.reason));
    });
  return { pool: new PostgresPool({ size, open }), openings };
}

/** A caller who keeps what is lent to him until he finishes. */
function ask(pool: PostgresPool) {
  const patience = new AbortController();
  let finish = () => {};
  let take: (session: PostgresConnection) => void = () => {};
  const served = new Promise<PostgresConnection>((resolve) => {
    take = resolve;
  });
  const use = (session: PostgresConnection) =>
    new Promise<void>((resolve) => {
      finish = resolve;
      take(session);
    });
  const ended = pool.run(use, patience.signal).catch((error: unknown) => error);
  const giveUp = () => {
    patience.abort(TOO_LONG);
    finish();
  };
  return { served, ended, finish: () => finish(), giveUp };
}
