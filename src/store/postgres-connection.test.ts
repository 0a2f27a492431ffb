import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { describe, expect, test, vi } from "vitest";
import { eventually } from "../../test/support/eventually.ts";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { listen } from "../../test/support/listen.ts";
import { DeadlineError } from "../upstream/transport/deadline.ts";
import { openPostgresConnection, type PostgresConnectionOptions } from "./postgres-connection.ts";

/** What a server says that wants no password. */
const GO_ON = Buffer.from("520000000800000000", "hex");
const YOUR_TURN = Buffer.from("5a0000000549", "hex");
/** That the statement found nothing. */
const NOTHING = Buffer.concat([Buffer.from("430000000d", "hex"), Buffer.from("SELECT 0\0"), YOUR_TURN]);

const QUESTION = { text: "SELECT 1", values: [], name: undefined };
const never = new AbortController().signal;

/** A session that is being opened, and its server, who says what the test has it say. */
async function openScene(options: Partial<PostgresConnectionOptions> = {}) {
  const server = createServer();
  const port = await listen(server);
  const clock = new FakeClock();
  const connected = once(server, "connection") as Promise<[Socket]>;
  const opening = openPostgresConnection(
    {
      url: `postgres://me@127.0.0.1:${port}/db`,
      statementTimeoutMs: undefined,
      silenceMs: 500,
      clock,
      ...options,
    },
    never,
  );
  const ended = opening.then(
    () => "open",
    (error: unknown) => error,
  );
  const [client] = await connected;
  client.on("error", () => {});
  const heard: Buffer[] = [];
  client.on("data", (bytes) => heard.push(bytes));
  // It knows that it is connected, and has introduced itself.
  await eventually(() => heard.length > 0);
  return {
    clock,
    client,
    heard,
    opening,
    ended,
    async [Symbol.asyncDispose]() {
      client.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** The same, opened, with a statement that whoever asked it has given up 100 ms later. */
async function openGivenUp(options: Partial<PostgresConnectionOptions>) {
  const scene = await openScene(options);
  const { clock, client, heard } = scene;
  client.write(Buffer.concat([GO_ON, YOUR_TURN]));
  const session = await scene.opening;
  const patience = new AbortController();
  const asked = session.query(QUESTION, patience.signal).catch((error: unknown) => error);
  await eventually(() => heard.length === 2);
  await clock.advance(100);
  patience.abort(new Error("too long"));
  expect(await asked).toEqual(new Error("too long"));
  return { ...scene, session };
}

describe("opening", () => {
  test("a server that falls silent meanwhile is given up, and its socket with it", async () => {
    await using scene = await openScene();
    await scene.clock.advance(499);
    expect(scene.clock.sleeperCount).toBe(2);
    await scene.clock.advance(1);
    expect(await scene.ended).toEqual(new DeadlineError("no answer within 500 ms"));
    await eventually(() => scene.client.readableEnded);
    expect(scene.clock.sleeperCount).toBe(0);
  });

  test("a server that is heard has as long again for its next word", async () => {
    await using scene = await openScene();
    await scene.clock.advance(499);
    const setTimer = vi.spyOn(scene.clock, "after");
    scene.client.write(GO_ON);
    await eventually(() => setTimer.mock.calls.length > 0);
    await scene.clock.advance(499);
    scene.client.write(YOUR_TURN);
    expect(await scene.ended).toBe("open");
    expect(scene.clock.sleeperCount).toBe(0);
    (await scene.opening).destroy();
  });
});

describe("a statement that is given up", () => {
  test("leaves the session to others once it is answered", async () => {
    await using scene = await openGivenUp({ lateAnswerMs: 500 });
    const { session, client, clock, heard } = scene;
    await clock.advance(399);
    expect(session.isOpen).toBe(true);
    const { late } = session;
    client.write(NOTHING);
    await late;
    expect(session).toMatchObject({ isOpen: true, late: undefined });
    expect(clock.sleeperCount).toBe(0);
    const asked = session.query(QUESTION, never);
    await eventually(() => heard.length === 3);
    client.write(NOTHING);
    expect(await asked).toEqual([]);
    session.destroy();
  });

  test("ends the session if the answer does not come in time, or the session is lost", async () => {
    for (const end of ["silence", "loss"]) {
      await using scene = await openGivenUp({ lateAnswerMs: 500 });
      const { session, client, clock } = scene;
      const { late } = session;
      if (end === "silence") await clock.advance(400);
      else client.resetAndDestroy();
      await late;
      expect(session).toMatchObject({ isOpen: false, late: undefined });
      expect(clock.sleeperCount).toBe(0);
    }
  });

  test("ends the session at once where nobody could use it after that", async () => {
    await using scene = await openGivenUp({});
    expect(scene.session).toMatchObject({ isOpen: false, late: undefined });
  });

  test("is not asked if that was before its turn", async () => {
    await using scene = await openScene();
    scene.client.write(Buffer.concat([GO_ON, YOUR_TURN]));
    const session = await scene.opening;
    await expect(session.query(QUESTION, AbortSignal.abort(new Error("too long")))).rejects.toThrow(
      "too long",
    );
    await settle();
    expect([session.isOpen, scene.heard.length]).toEqual([true, 1]);
    session.destroy();
  });
});
