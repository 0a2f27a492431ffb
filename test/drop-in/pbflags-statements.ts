import type { Database } from "../../src/store/database.ts";

/**
 * What servers of pbflags do with the tables, in our own words: columns by name, parameters, one transaction
 * for a change and the row that logs it.
 */
export interface Write {
  readonly name: string;
  run(database: Database): Promise<void>;
  /** How its own log calls it. */
  readonly action: string;
  readonly flagId: string;
  /** What followers must hear. */
  readonly flags: readonly string[];
  readonly entities: readonly string[];
}

/** Statements that only read. What they return must not change by adoption. */
export const reads: readonly (readonly [string, readonly unknown[]])[] = [
  ["SELECT state, value, archived_at FROM feature_flags.flags WHERE flag_id = $1", ["notifications/2"]],
  ["SELECT state, value, archived_at FROM feature_flags.flags WHERE flag_id = $1", ["notifications/5"]],
  ["SELECT flag_id FROM feature_flags.flags WHERE state = 'KILLED' ORDER BY flag_id", []],
  [
    "SELECT flag_id FROM feature_flags.flags WHERE state = 'KILLED' AND archived_at IS NULL ORDER BY flag_id",
    [],
  ],
  ["SELECT flag_id, entity_id FROM feature_flags.flag_overrides WHERE state = 'KILLED'", []],
  [
    "SELECT flag_id, state, value FROM feature_flags.flag_overrides WHERE entity_id = $1 ORDER BY flag_id",
    ["user-1"],
  ],
  [
    "SELECT flag_id, state, value FROM feature_flags.flag_overrides WHERE entity_id = $1 AND flag_id = ANY ($2) ORDER BY 1",
    ["user-1", ["notifications/1", "notifications/3"]],
  ],
  [
    `SELECT t.feature_id, t.description, t.owner, f.flag_id, f.display_name, f.description, f.flag_type, f.layer, f.state,
       f.default_value, f.value, f.archived_at
     FROM feature_flags.features t LEFT JOIN feature_flags.flags f ON f.feature_id = t.feature_id ORDER BY t.feature_id, f.field_number`,
    [],
  ],
  [
    `SELECT id, flag_id, action, old_value, new_value, actor, created_at FROM feature_flags.flag_audit_log
     WHERE ($1 = '' OR flag_id = $1) ORDER BY created_at DESC LIMIT $2`,
    ["", 50],
  ],
  [
    "SELECT flag_id FROM feature_flags.flags WHERE feature_id = ANY ($1) AND archived_at IS NULL ORDER BY 1",
    [["notifications"]],
  ],
];

const log =
  "INSERT INTO feature_flags.flag_audit_log (flag_id, action, old_value, new_value, actor) VALUES ($1, $2, $3, $4, $5)";
const weekly = Buffer.from("12067765656b6c79", "hex");
const no = Buffer.from("0800", "hex");

async function updateState(
  database: Database,
  flagId: string,
  state: string,
  value: Buffer | null,
): Promise<void> {
  await database.transaction(async () => {
    const old = await database.query<{ value: Buffer | null }>(
      "SELECT value FROM feature_flags.flags WHERE flag_id = $1",
      [flagId],
    );
    await database.query(
      "UPDATE feature_flags.flags SET state = $1, value = $2, updated_at = now() WHERE flag_id = $3",
      [state, value, flagId],
    );
    await database.query(log, [flagId, "UPDATE_STATE", old.rows[0]?.value ?? null, value, "old-admin"]);
  });
}

async function setOverride(
  database: Database,
  flagId: string,
  entityId: string,
  action: string,
): Promise<void> {
  await database.transaction(async () => {
    // Logged first: both orders occur.
    await database.query(log, [flagId, action, null, no, "old-admin"]);
    await database.query(
      `INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, state, value) VALUES ($1, $2, $3, $4)
       ON CONFLICT (flag_id, entity_id) DO UPDATE SET state = EXCLUDED.state, value = EXCLUDED.value, updated_at = now()`,
      [flagId, entityId, "ENABLED", no],
    );
  });
}

export const writes: readonly Write[] = [
  {
    name: "sets a value",
    run: (database) =>
      updateState(database, "notifications/2", "ENABLED", Buffer.from("12056461696c79", "hex")),
    action: "UPDATE_STATE",
    flagId: "notifications/2",
    flags: ["notifications/2"],
    entities: [],
  },
  {
    name: "kills a flag",
    run: (database) => updateState(database, "notifications/2", "KILLED", null),
    action: "UPDATE_STATE",
    flagId: "notifications/2",
    flags: ["notifications/2"],
    entities: [],
  },
  {
    name: "revives a flag",
    run: (database) => updateState(database, "notifications/3", "ENABLED", Buffer.from("1807", "hex")),
    action: "UPDATE_STATE",
    flagId: "notifications/3",
    flags: ["notifications/3"],
    entities: [],
  },
  {
    name: "creates an override",
    run: (database) => setOverride(database, "notifications/1", "user-9", "CREATE_OVERRIDE"),
    action: "CREATE_OVERRIDE",
    flagId: "notifications/1",
    flags: [],
    entities: ["user-9"],
  },
  {
    name: "replaces an override",
    run: (database) => setOverride(database, "notifications/1", "user-2", "UPDATE_OVERRIDE"),
    action: "UPDATE_OVERRIDE",
    flagId: "notifications/1",
    flags: [],
    entities: ["user-2"],
  },
  {
    name: "removes an override",
    run: (database) =>
      database.transaction(async () => {
        await database.query(
          "DELETE FROM feature_flags.flag_overrides WHERE flag_id = $1 AND entity_id = $2",
          ["notifications/1", "user-1"],
        );
        await database.query(log, ["notifications/1", "REMOVE_OVERRIDE", no, null, "old-admin"]);
      }),
    action: "REMOVE_OVERRIDE",
    flagId: "notifications/1",
    flags: [],
    entities: ["user-1"],
  },
];

/** Their sync of definitions: a known feature and flag, and a new one. */
export async function syncDefinitions(
  database: Database,
  columns: "without" | "with supported values",
): Promise<void> {
  await database.query(
    `INSERT INTO feature_flags.features (feature_id, display_name, description, owner) VALUES ($1, $2, $3, $4)
     ON CONFLICT (feature_id) DO UPDATE SET display_name = EXCLUDED.display_name, description = EXCLUDED.description,
       owner = EXCLUDED.owner, updated_at = now()`,
    ["notifications", "Notifications", "New words", "team-growth"],
  );
  const [names, places, sets] =
    columns === "without"
      ? ["", "", ""]
      : [", supported_values", ", $9", ", supported_values = EXCLUDED.supported_values"];
  for (const [number, name] of [
    [1, "email_enabled"],
    [2, "digest"],
    [6, "brand_new"],
  ] as const) {
    const values: unknown[] = [
      `notifications/${number}`,
      "notifications",
      number,
      name,
      "STRING",
      "GLOBAL",
      "words",
      weekly,
    ];
    await database.query(
      `INSERT INTO feature_flags.flags
         (flag_id, feature_id, field_number, display_name, flag_type, layer, description, default_value${names})
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8${places})
       ON CONFLICT (flag_id) DO UPDATE SET display_name = EXCLUDED.display_name, description = EXCLUDED.description,
         default_value = EXCLUDED.default_value${sets}, archived_at = NULL, updated_at = now()`,
      columns === "without" ? values : [...values, null],
    );
  }
}

/** How their standalone mode, from v0.11, makes sure that it is the only one. */
export async function takeLease(database: Database): Promise<boolean> {
  const { rowCount } = await database.query(
    `INSERT INTO feature_flags.standalone_lease (id, instance_id, started_at, heartbeat_at) VALUES ('singleton', $1, now(), now())
     ON CONFLICT (id) DO UPDATE SET instance_id = EXCLUDED.instance_id, started_at = now(), heartbeat_at = now()
     WHERE standalone_lease.heartbeat_at < now() - interval '1 minute'`,
    ["host-2"],
  );
  return rowCount === 1;
}
