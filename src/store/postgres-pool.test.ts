import { expect, test } from "vitest";
import { settle } from "../../test/support/fake-clock.ts";
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
