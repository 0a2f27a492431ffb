import pg from "pg";
import { expect, test } from "vitest";
import { connectDatabase, type Database } from "../../src/store/database.ts";
import { migrate } from "../../src/store/migrate.ts";
import { eventually } from "../support/eventually.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { describeDatabase, type PbflagsVersion, pbflagsVersions } from "./pbflags-databases.ts";
import { reads, syncDefinitions, takeLease, writes } from "./pbflags-statements.ts";

interface Adopted extends AsyncDisposable {
  readonly url: string;
  readonly database: Database;
}

async function openAdopted(version: PbflagsVersion): Promise<Adopted> {
  const created = await createTestDatabase({ migrated: false });
  const database = await connectDatabase({ url: created.url });
  await database.query(describeDatabase(version));
  await migrate(database);
  return {
    url: created.url,
    database,
    async [Symbol.asyncDispose]() {
      await database[Symbol.asyncDispose]();
      await created[Symbol.asyncDispose]();
    },
  };
}

async function readAll(database: Database): Promise<readonly unknown[]> {
  const answers = [];
  for (const [statement, values] of reads) answers.push((await database.query(statement, values)).rows);
  return answers;
}

test.each(pbflagsVersions)(
  "readers of %s see after the adoption what they saw before it",
  async (version) => {
    await using created = await createTestDatabase({ migrated: false });
    await using database = await connectDatabase({ url: created.url });
    await database.query(describeDatabase(version));
    const before = await readAll(database);
    await migrate(database);
    expect(await readAll(database)).toEqual(before);
  },
);

for (const version of pbflagsVersions) {
  test.each(writes)(`a server of ${version} $name: logged once, one revision, announced`, async (write) => {
    await using adopted = await openAdopted(version);
    const { database } = adopted;
    const heard: unknown[] = [];
    const client = new pg.Client(adopted.url);
    client.on("notification", ({ payload }) => {
      heard.push(JSON.parse(payload ?? ""));
    });
    await client.connect();
    await client.query("LISTEN feature_flags_changed");

    await write.run(database);

    const logged = await database.query(
      "SELECT flag_id, action, actor FROM feature_flags.flag_audit_log WHERE created_at > now() - interval '1 hour'",
    );
    expect(logged.rows).toEqual([{ flag_id: write.flagId, action: write.action, actor: "old-admin" }]);
    const changes = await database.query(
      "SELECT flag_ids, entity_ids FROM feature_flags.changes WHERE revision > 0",
    );
    expect(changes.rows).toEqual([{ flag_ids: write.flags, entity_ids: write.entities }]);
    await eventually(() => heard.length > 0);
    expect(heard).toMatchObject([{ revision: 1, flags: write.flags, entities: write.entities }]);
    await client.end();
  });
}

test("their kill can be revived with what it took, and their next one again", async () => {
  await using adopted = await openAdopted("v0.10");
  const { database } = adopted;
  const state = "SELECT state, value FROM feature_flags.flag_status WHERE flag_id = 'notifications/2'";
  for (const write of writes.filter(({ name }) => name === "kills a flag")) {
    await write.run(database);
    await write.run(database);
    expect((await database.query(state)).rows).toEqual([{ state: "KILLED", value: "weekly" }]);
    await database.query("SELECT feature_flags.revive('notifications/2')");
    expect((await database.query(state)).rows).toEqual([{ state: "ENABLED", value: "weekly" }]);
  }
});

test.each([
  ["v0.5", "without"],
  ["v0.10", "without"],
  ["v0.13", "with supported values"],
] as const)(
  "a sync of %s still writes definitions, and announces only what evaluation sees",
  async (version, columns) => {
    await using adopted = await openAdopted(version);
    const { database } = adopted;
    await syncDefinitions(database, columns);
    const changes = await database.query(
      "SELECT flag_ids FROM feature_flags.changes WHERE revision > 0 ORDER BY revision",
    );
    expect(changes.rows).toEqual([{ flag_ids: ["notifications/6"] }]);
    await database.query(
      "UPDATE feature_flags.flags SET archived_at = now(), updated_at = now() WHERE flag_id = $1",
      ["notifications/6"],
    );
    await syncDefinitions(database, columns);
    const logged = await database.query(
      "SELECT action FROM feature_flags.flag_audit_log WHERE created_at > now() - interval '1 hour' ORDER BY id",
    );
    expect(logged.rows.map((row) => Object.values(row)[0])).toEqual(["ARCHIVE_FLAG", "UNARCHIVE_FLAG"]);
  },
);

test.each(pbflagsVersions)(
  "a standalone server of v0.11 and later gets its lease on a database of %s",
  async (version) => {
    await using adopted = await openAdopted(version);
    expect(await takeLease(adopted.database)).toBe(true);
    expect(await takeLease(adopted.database)).toBe(false);
  },
);
