import { expect, test } from "vitest";
import { openFlagsDatabase } from "../sql/flags-database.ts";

test.each(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])(
  "a transaction at %s that wrote a flag and stays open delays nobody's kill",
  async (isolation) => {
    await using opened = await openFlagsDatabase();
    await using idle = await opened.connect();
    await idle.query(
      `BEGIN ISOLATION LEVEL ${isolation}; SELECT feature_flags.set_value('shop/2', 'weekly')`,
    );

    // Waiting for anybody at all would be an error.
    await opened.database.query("SET lock_timeout = '1s'");
    expect(await opened.one("SELECT feature_flags.kill('shop/1')")).toBe("KILLED");
    const killed = Number(await opened.one("SELECT max(revision) FROM feature_flags.changes"));

    await idle.query("COMMIT");
    expect(Number(await opened.one("SELECT max(revision) FROM feature_flags.changes"))).toBe(killed + 1);
    expect(await opened.one("SELECT flag_ids FROM feature_flags.changes_since($1)", [killed])).toEqual([
      "shop/2",
    ]);
  },
);

test("who began first and commits last has the higher revision", async () => {
  await using opened = await openFlagsDatabase();
  await using early = await opened.connect();
  await using late = await opened.connect();
  const start = Number(await opened.one("SELECT max(revision) FROM feature_flags.changes"));
  await early.query("BEGIN; SELECT feature_flags.kill('shop/1')");
  await late.query("BEGIN; SELECT feature_flags.kill('shop/2'); COMMIT");
  await early.query("COMMIT");
  expect(
    await opened.column("SELECT flag_ids FROM feature_flags.changes WHERE revision > $1 ORDER BY revision", [
      start,
    ]),
  ).toEqual([["shop/2"], ["shop/1"]]);
});
