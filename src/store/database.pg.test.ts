import { afterAll, beforeAll, expect, test } from "vitest";
import { openTestPostgres, type TestPostgres } from "../../test/support/postgres.ts";
import { openTcpProxy } from "../../test/support/tcp-proxy.ts";
import { connectDatabase, DatabaseUnreachableError } from "./database.ts";

let server: TestPostgres;

beforeAll(async () => {
  server = await openTestPostgres();
});

afterAll(() => server[Symbol.asyncDispose]());

function through(port: number): string {
  return Object.assign(new URL(server.url), { port: String(port) }).href;
}

test("a transaction is kept as a whole, or not at all", async () => {
  await using database = await connectDatabase({ url: server.url });
  await database.query("CREATE TABLE kept (n int)");
  await database.transaction(() => database.query("INSERT INTO kept VALUES (1)"));
  const failing = database.transaction(async () => {
    await database.query("INSERT INTO kept VALUES (2)");
    throw new Error("changed my mind");
  });
  await expect(failing).rejects.toThrow("changed my mind");
  expect(await database.query("SELECT n FROM kept")).toEqual({
    rows: [{ n: 1 }],
    rowCount: 1,
    columns: ["n"],
  });
});

test("of several statements the last one's result is given", async () => {
  await using database = await connectDatabase({ url: server.url });
  expect((await database.query("SELECT 1 AS one; SELECT 2 AS two")).rows).toEqual([{ two: 2 }]);
});

test("what the server says on the side is heard", async () => {
  const said: string[] = [];
  await using database = await connectDatabase({
    url: server.url,
    onNotice: (message) => said.push(message),
  });
  await database.query("DO $$ BEGIN RAISE NOTICE 'by the way'; END $$");
  expect(said).toEqual(["by the way"]);
});

test("an address where nobody listens is named, and the password is not", async () => {
  const attempt = connectDatabase({ url: "postgres://me:very+secret@127.0.0.1:1/db" });
  await expect(attempt).rejects.toThrow(DatabaseUnreachableError);
  await expect(attempt).rejects.toThrow(/^Cannot reach database at 127\.0\.0\.1:1\/db: .*ECONNREFUSED/);
  const unreadable = connectDatabase({ url: "postgres://me:very+secret@host:port/db" });
  await expect(unreadable).rejects.toThrow("Cannot use the database URL: Invalid URL");
  await expect(unreadable).rejects.not.toThrow(/secret/);
});

test("a frozen server does not hold up a goodbye", async () => {
  await using proxy = await openTcpProxy(server.port);
  const database = await connectDatabase({ url: through(proxy.port) });
  proxy.drop();
  await database[Symbol.asyncDispose]();
  expect(proxy.connectionCount).toBe(0);
});
