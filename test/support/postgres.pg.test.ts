import { connect } from "node:net";
import { Client } from "pg";
import { expect, test } from "vitest";
import { connectDatabase, DatabaseUnreachableError } from "../../src/store/database.ts";
import { createTestDatabase, openTestPostgres } from "./postgres.ts";
import { isAlive } from "./process-tree.ts";

test("each test database is its own, migrated unless asked otherwise, and gone afterwards", async () => {
  let url: string;
  {
    await using one = await createTestDatabase();
    await using other = await createTestDatabase({ migrated: false });
    url = one.url;
    await using migrated = await connectDatabase({ url: one.url });
    await using empty = await connectDatabase({ url: other.url });
    const text = "SELECT to_regclass('feature_flags.flags') IS NOT NULL AS found";
    expect((await migrated.query(text)).rows).toEqual([{ found: true }]);
    expect((await empty.query(text)).rows).toEqual([{ found: false }]);
  }
  await expect(connectDatabase({ url })).rejects.toThrow(DatabaseUnreachableError);
});

test("many test databases can be made at once", async () => {
  const databases = await Promise.all(Array.from({ length: 8 }, () => createTestDatabase()));
  expect(new Set(databases.map(({ url }) => url)).size).toBe(8);
  await Promise.all(databases.map((database) => database[Symbol.asyncDispose]()));
});

test("an own server stops, crashes and starts again with its data on the same address", async () => {
  await using server = await openTestPostgres();
  const count = async () => {
    await using database = await connectDatabase({ url: server.url });
    await database.query("CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)");
    return (await database.query("SELECT count(*)::int AS n FROM kept")).rows[0]?.["n"];
  };
  expect(await count()).toBe(1);
  await server.stop();
  await expect(count()).rejects.toThrow(/ECONNREFUSED/);
  await server.start();
  expect(await count()).toBe(2);
  await server.kill();
  await expect(count()).rejects.toThrow(/ECONNREFUSED/);
  await server.start();
  expect(await count()).toBe(3);
});

test("a frozen server neither answers nor lets anybody in, until it is thawed", async () => {
  await using server = await openTestPostgres();
  await using open = await connectDatabase({ url: server.url });
  await server.freeze();
  const query = open.query("SELECT 1 AS one");
  await expect(connectDatabase({ url: server.url, connectTimeoutMs: 300 })).rejects.toThrow(/timeout/);
  await server.thaw();
  expect((await query).rows).toEqual([{ one: 1 }]);
});

test("nothing of an own server is left, even if it is frozen when the test ends", async () => {
  let pid: number;
  let port: number;
  {
    await using server = await openTestPostgres();
    ({ pid, port } = server);
    const client = new Client({ connectionString: server.url });
    client.on("error", () => {});
    await client.connect();
    await server.freeze();
  }
  expect(await isAlive(pid)).toBe(false);
  const refused = await new Promise((resolve) => connect(port, "127.0.0.1").once("error", resolve));
  expect(refused).toMatchObject({ code: "ECONNREFUSED" });
});
