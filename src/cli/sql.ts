import type { Command } from "commander";
import type { Database, TextResult } from "../store/database.ts";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { addDatabase, openDatabase } from "./open-database.ts";
import { printJson, widthFor } from "./print.ts";
import { formatTable } from "./table.ts";

const STATEMENT_LENGTH_MAX = 16_777_216;

/** `pbflagd sql`: runs a statement, for machines without psql. */
export function addSql(program: Command, io: Io): void {
  const command = program
    .command("sql")
    .description(
      "Run an SQL statement on the configured database, or on that of `pbflagd dev`, and print the result.",
    )
    .argument("<statement>", "one statement or several; - reads them from the standard input")
    .option("--json", "print the rows as an array of objects")
    .addHelpText(
      "after",
      `
Examples:
  pbflagd sql "SELECT feature_flags.kill('notifications/1')"
  pbflagd sql "SELECT flag_id, state, value FROM feature_flags.flag_status"
  pbflagd sql - < switches.sql`,
    );
  addDatabase(command).action(async (given: string, { json = false }: { json?: boolean }) => {
    const statement = given === "-" ? await readAll(io) : given;
    if (statement.trim() === "") throw new CommandError(2, "expected an SQL statement, got nothing");
    await using database = await openDatabase(command, io);
    const result = await database.queryText(statement);
    if (await isInTransaction(database)) {
      throw new CommandError(
        1,
        "the transaction was left open, so nothing of it is kept: end it with COMMIT",
      );
    }
    if (json) printJson(io, toObjects(result));
    else printResult(io, result);
  });
}

/** Only a transaction that began with an earlier statement began before this one. */
async function isInTransaction(database: Database): Promise<boolean> {
  const { rows } = await database.query<{ open: boolean }>("SELECT now() <> statement_timestamp() AS open");
  return rows[0]?.open === true;
}

function printResult(io: Io, { rows, columns, rowCount }: TextResult): void {
  const rowsAre = rowCount === 1 ? "1 row" : `${rowCount} rows`;
  if (columns.length === 0) {
    io.stdout(rowCount === 0 ? "Done.\n" : `Done: ${rowsAre}.\n`);
    return;
  }
  const names = columns.map(({ name }) => name);
  const cells = rows.map((row) => row.map((cell) => cell ?? "NULL"));
  io.stdout(formatTable(names, cells, { width: widthFor(io) }));
  io.stdout(`(${rowsAre})\n`);
}

/** Rows as objects. Of two columns with one name, the last one counts. */
function toObjects({ columns, rows }: TextResult): readonly unknown[] {
  return rows.map((row) =>
    Object.fromEntries(columns.map(({ name, typeId }, i) => [name, toJsonValue(row[i] ?? null, typeId)])),
  );
}

/** Numbers in pg_type of what JSON has a form for, and how Postgres' spelling becomes it. */
const JSON_FORMS: Readonly<Record<number, (text: string) => unknown>> = {
  16: (text) => text === "t",
  21: Number,
  23: Number,
  701: (text) => (Number.isFinite(Number(text)) ? Number(text) : text),
  114: toPlainJson,
  3802: toPlainJson,
};

/** JSON in JSON, unless a number in it has more digits than a reader can be trusted with. */
function toPlainJson(text: string): unknown {
  return /\d{16}/.test(text) ? text : JSON.parse(text);
}

/** Text wherever JSON would lose something, such as the digits of a bigint. */
function toJsonValue(text: string | null, typeId: number): unknown {
  return text === null ? null : (JSON_FORMS[typeId]?.(text) ?? text);
}

async function readAll(io: Io): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of io.stdin) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > STATEMENT_LENGTH_MAX) {
      throw new CommandError(
        2,
        `expected at most ${STATEMENT_LENGTH_MAX} bytes of SQL on the standard input, got more`,
      );
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}
