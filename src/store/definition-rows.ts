import { toBinary } from "@bufbuild/protobuf";
import type { FlagDefinition, FlagTable } from "../flags/definition.ts";
import { SupportedValuesSchema } from "../gen/pbflags/options_pb.ts";
import { FlagValueSchema } from "../gen/pbflags/v1/types_pb.ts";
import type { Database } from "./database.ts";
import type { FlagRecord, StoredFlagRecord } from "./sync-plan.ts";

/** What the database's columns have room for. Texts for people are cut; ids are not. */
const limits = { description: 1024, name: 255 } as const;

/** What the row of a flag has to say. */
export function toFlagRecord(flag: FlagDefinition): FlagRecord {
  return {
    flagId: flag.id,
    featureId: flag.featureId,
    fieldNumber: flag.fieldNumber,
    displayName: cut(flag.name, limits.name),
    flagType: flag.type,
    layer: flag.layer === "" ? "GLOBAL" : flag.layer.toUpperCase(),
    description: cut(flag.description, limits.description),
    defaultHex: flag.defaultValue === undefined ? null : toHex(toBinary(FlagValueSchema, flag.defaultValue)),
    supportedHex:
      flag.supportedValues === undefined
        ? null
        : toHex(toBinary(SupportedValuesSchema, flag.supportedValues)),
  };
}

/** By character, as Postgres counts, and without NUL, which it cannot store. */
function cut(text: string, lengthMax: number): string {
  const storable = text.replaceAll("\0", "");
  return storable.length <= lengthMax ? storable : Array.from(storable).slice(0, lengthMax).join("");
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** The rows of the table's features. */
export async function readFlagRecords(
  database: Database,
  table: FlagTable,
): Promise<readonly StoredFlagRecord[]> {
  const { rows } = await database.query<StoredFlagRecord>(
    `SELECT flag_id AS "flagId", feature_id AS "featureId", field_number AS "fieldNumber",
       display_name AS "displayName", flag_type AS "flagType", layer, description,
       encode(default_value, 'hex') AS "defaultHex", encode(supported_values, 'hex') AS "supportedHex",
       archived_at IS NOT NULL AS archived
     FROM feature_flags.flags WHERE feature_id = ANY ($1) OR flag_id = ANY ($2)`,
    [table.features.map(({ id }) => id), table.flags.map(({ id }) => id)],
  );
  return rows;
}

/** Writes what differs. */
export async function writeFeatures(database: Database, table: FlagTable): Promise<void> {
  await database.query(
    `INSERT INTO feature_flags.features AS f (feature_id, display_name, description, owner)
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
     ON CONFLICT (feature_id) DO UPDATE SET
       display_name = EXCLUDED.display_name, description = EXCLUDED.description, owner = EXCLUDED.owner,
       updated_at = now()
     WHERE (f.display_name, f.description, f.owner)
       IS DISTINCT FROM (EXCLUDED.display_name, EXCLUDED.description, EXCLUDED.owner)`,
    [
      table.features.map(({ id }) => id),
      table.features.map(({ displayName }) => cut(displayName, limits.name)),
      table.features.map(({ description }) => cut(description, limits.description)),
      table.features.map(({ owner }) => cut(owner, limits.name)),
    ],
  );
}

/** One array for each column of a `FlagRecord`. */
function columnsOf(flags: readonly FlagRecord[]): readonly unknown[] {
  return [
    flags.map(({ flagId }) => flagId),
    flags.map(({ featureId }) => featureId),
    flags.map(({ fieldNumber }) => fieldNumber),
    flags.map(({ displayName }) => displayName),
    flags.map(({ flagType }) => flagType),
    flags.map(({ layer }) => layer),
    flags.map(({ description }) => description),
    flags.map(({ defaultHex }) => defaultHex),
    flags.map(({ supportedHex }) => supportedHex),
  ];
}

const unnested = `unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
  AS n (flag_id, feature_id, field_number, display_name, flag_type, layer, description, default_hex, supported_hex)`;

export async function insertFlags(database: Database, flags: readonly FlagRecord[]): Promise<void> {
  if (flags.length === 0) return;
  await database.query(
    `INSERT INTO feature_flags.flags
       (flag_id, feature_id, field_number, display_name, flag_type, layer, description, default_value, supported_values)
     SELECT flag_id, feature_id, field_number, display_name, flag_type, layer, description,
       decode(default_hex, 'hex'), decode(supported_hex, 'hex')
     FROM ${unnested}`,
    columnsOf(flags),
  );
}

/** Archived ones come back. */
export async function updateFlags(database: Database, flags: readonly FlagRecord[]): Promise<void> {
  if (flags.length === 0) return;
  await database.query(
    `UPDATE feature_flags.flags AS f SET
       feature_id = n.feature_id, field_number = n.field_number, display_name = n.display_name,
       flag_type = n.flag_type, layer = n.layer, description = n.description,
       default_value = decode(n.default_hex, 'hex'), supported_values = decode(n.supported_hex, 'hex'),
       archived_at = NULL, updated_at = now()
     FROM ${unnested} WHERE f.flag_id = n.flag_id`,
    columnsOf(flags),
  );
}

export async function archiveFlags(database: Database, flagIds: readonly string[]): Promise<void> {
  if (flagIds.length === 0) return;
  await database.query(
    "UPDATE feature_flags.flags SET archived_at = now(), updated_at = now() WHERE flag_id = ANY ($1)",
    [flagIds],
  );
}
