import { expect, test } from "vitest";
import { connectDatabase, type Database } from "../../src/store/database.ts";
import { type FlagsDatabase, openFlagsDatabase } from "../sql/flags-database.ts";
import { eventually } from "../support/eventually.ts";
import { size } from "../support/size.ts";

const writerCount = 8;
const transactionCount = size(150, 1_000);

/** What one statement saw: the version, how often each flag was committed, and what the changes say of it. */
interface Sight {
  readonly revision: number;
  readonly revisions: readonly number[];
  readonly counters: Readonly<Record<string, number>>;
  readonly changes: Readonly<Record<string, number>>;
}

const look = `SELECT split_part(feature_flags.version(), ':', 2)::integer AS revision,
  (SELECT array_agg(c.revision::integer ORDER BY c.revision) FROM feature_flags.changes AS c) AS revisions,
  (SELECT jsonb_object_agg(s.flag_id, s.value) FROM feature_flags.flag_status AS s WHERE s.value IS NOT NULL) AS counters,
  (SELECT jsonb_object_agg(n.flag_id, n.times) FROM (
    SELECT u.flag_id, count(*) AS times FROM feature_flags.changes AS c, unnest(c.flag_ids) AS u (flag_id)
    WHERE c.revision > $1 GROUP BY 1) AS n) AS changes`;

test.each(["READ COMMITTED", "REPEATABLE READ"])(
  "eight writers at %s, with rollbacks between: revisions appear in order, and nobody fails",
  async (isolation) => {
    await using opened = await openFlagsDatabase();
    const start = await defineCounters(opened);
    const announced = await opened.listen();
    const reading = new AbortController();
    const readers = [1, 2].map(() => readUntil(reading.signal, opened.url, start));

    const writers = await Promise.all(Array.from({ length: writerCount }, () => opened.connect()));
    const idle = await opened.connect();
    await idle.query("BEGIN; SELECT feature_flags.kill('shop/1')");
    const commits = await Promise.all(writers.map((writer, n) => writeCounters(writer, n, isolation)));
    reading.abort();
    const sights = (await Promise.all(readers)).flat();
    await idle.query("ROLLBACK");
    for (const connection of [...writers, idle]) await connection[Symbol.asyncDispose]();

    const committed = commits.reduce((sum, count) => sum + count, 0);
    expect(committed).toBeGreaterThan((writerCount * transactionCount) / 2);
    expect(sights.length).toBeGreaterThan(10);
    expect(
      await opened.one("SELECT count(*)::integer FROM feature_flags.changes WHERE revision > $1", [start]),
    ).toBe(committed);
    await eventually(() => announced.length === committed);
    const order = announced.map((notice) => (notice as { revision: number }).revision);
    expect(order).toEqual(order.toSorted((a, b) => a - b));
  },
);

/** One INT64 flag for each writer, so that none waits for another's row. Returns the revision after it. */
async function defineCounters(opened: FlagsDatabase): Promise<number> {
  await opened.database.query(
    `INSERT INTO feature_flags.flags (flag_id, feature_id, field_number, flag_type, layer)
     SELECT 'shop/' || n, 'shop', n, 'INT64', 'USER' FROM generate_series(100, 99 + $1::integer) AS n`,
    [writerCount],
  );
  return Number(await opened.one("SELECT max(revision) FROM feature_flags.changes"));
}

/** Counts its flag up, once in each committed transaction. Every fourth is rolled back. */
async function writeCounters(database: Database, writer: number, isolation: string): Promise<number> {
  const flag = `shop/${100 + writer}`;
  let counter = 0;
  for (let n = 0; n < transactionCount; n++) {
    const end = n % 4 === writer % 4 ? "ROLLBACK" : "COMMIT";
    await database.query(`BEGIN ISOLATION LEVEL ${isolation}`);
    await database.query("SELECT feature_flags.set_value($1, $2::text)", [flag, `${counter + 1}`]);
    if (n % 3 === 0)
      await database.query("SELECT feature_flags.set_override($1, 'u', $2::text)", [flag, `${n}`]);
    await database.query(end);
    if (end === "COMMIT") counter++;
  }
  return counter;
}

/** Looks again and again, and compares each look with the one before. */
async function readUntil(signal: AbortSignal, url: string, start: number): Promise<readonly Sight[]> {
  await using database = await connectDatabase({ url });
  const sights: Sight[] = [];
  while (!signal.aborted) sights.push(...(await database.query<Sight>(look, [start])).rows);
  let before: Pick<Sight, "revision" | "revisions"> = { revision: 0, revisions: [0] };
  for (const sight of sights) {
    expect(sight.revision).toBe(sight.revisions.at(-1));
    expect(sight.revision).toBeGreaterThanOrEqual(before.revision);
    // Nothing turns up below what was seen.
    const { revision: seen } = before;
    expect(sight.revisions.filter((revision) => revision <= seen)).toEqual(before.revisions);
    // The state and the changes in one snapshot are of one age.
    expect(sight.changes ?? {}).toEqual(sight.counters ?? {});
    before = sight;
  }
  return sights;
}
