import pg from "pg";
import { connectDatabase, type Database } from "../../src/store/database.ts";
import { createTestDatabase } from "../support/postgres.ts";

export interface FlagsDatabase extends AsyncDisposable {
  readonly url: string;
  readonly database: Database;
  /** What the server said beside its answers. */
  readonly notices: readonly string[];
  /** The first column of all rows. */
  column(text: string, values?: readonly unknown[]): Promise<readonly unknown[]>;
  /** The first column of the first row. */
  one(text: string, values?: readonly unknown[]): Promise<unknown>;
  /** A connection of its own, for the caller to close. */
  connect(): Promise<Database>;
  /** What is announced from now on, parsed where it is not empty, in order. */
  listen(channels?: readonly string[]): Promise<readonly unknown[]>;
}

/**
 * A migrated database with the feature "shop", which has a flag of every type: 1 to 8 in the order of
 * FlagType, called "bool" to "double_list", of the layer USER; 9, "global", is a BOOL that does not vary.
 */
export async function openFlagsDatabase(): Promise<FlagsDatabase> {
  const created = await createTestDatabase();
  const notices: string[] = [];
  const database = await connectDatabase({
    url: created.url,
    onNotice: (message) => {
      notices.push(message);
    },
  });
  await database.query(`
    INSERT INTO feature_flags.features (feature_id, display_name) VALUES ('shop', 'Shop');
    INSERT INTO feature_flags.flags (flag_id, feature_id, field_number, display_name, flag_type, layer)
      SELECT 'shop/' || number, 'shop', number, lower(type), type, 'USER'
      FROM unnest(ARRAY['BOOL', 'STRING', 'INT64', 'DOUBLE', 'BOOL_LIST', 'STRING_LIST', 'INT64_LIST', 'DOUBLE_LIST'])
        WITH ORDINALITY AS types (type, number)
      UNION ALL VALUES ('shop/9', 'shop', 9, 'global', 'BOOL', 'GLOBAL')`);
  const column = async (text: string, values?: readonly unknown[]): Promise<readonly unknown[]> => {
    const { rows } = await database.query(text, values);
    return rows.map((row) => Object.values(row)[0]);
  };
  const listeners: pg.Client[] = [];
  return {
    url: created.url,
    database,
    notices,
    column,
    one: async (text, values) => (await column(text, values))[0],
    connect: () => connectDatabase({ url: created.url }),
    async listen(channels = ["feature_flags_changed"]) {
      const heard: unknown[] = [];
      const client = new pg.Client(created.url);
      listeners.push(client);
      client.on("notification", ({ payload }) => {
        heard.push(payload === undefined || payload === "" ? "" : JSON.parse(payload));
      });
      await client.connect();
      for (const channel of channels) await client.query(`LISTEN ${channel}`);
      return heard;
    },
    async [Symbol.asyncDispose]() {
      for (const client of listeners) await client.end();
      await database[Symbol.asyncDispose]();
      await created[Symbol.asyncDispose]();
    },
  };
}
