/** A statement once for a database with our additions, and once for one that pbflags alone has made. */
export interface Read {
  readonly name: string;
  readonly versioned: string;
  readonly plain: string;
}

// Version and rows come from one statement, and so from one snapshot. Behind OFFSET 0 the version is asked for
// once, not for each row. There is always at least one row, which tells an empty answer from a lost one.

const FLAG_STATES = (version: string) => `
  SELECT v.version, f.flag_id, f.flag_type, f.state, f.value, f.archived_at IS NOT NULL AS archived
  FROM (SELECT ${version} AS version OFFSET 0) AS v
  LEFT JOIN feature_flags.flags AS f ON f.flag_id = ANY ($1::text[])`;

const OVERRIDES = (version: string) => `
  SELECT v.version, o.flag_id, o.entity_id, o.state, o.value
  FROM (SELECT ${version} AS version OFFSET 0) AS v
  LEFT JOIN feature_flags.flag_overrides AS o ON o.entity_id = ANY ($1::text[])`;

const KILLED_FLAGS = `
  ARRAY (SELECT f.flag_id::text FROM feature_flags.flags AS f WHERE f.state = 'KILLED')`;

const KILLED_OVERRIDES = `
  ARRAY (SELECT ARRAY[o.flag_id, o.entity_id]::text[]
         FROM feature_flags.flag_overrides AS o WHERE o.state = 'KILLED')`;

const NO_VERSION = "NULL::text";
const VERSION = "feature_flags.version()";

const HAS_VERSIONS = `
  to_regprocedure('feature_flags.version()') IS NOT NULL
  AND to_regprocedure('feature_flags.changes_since(bigint)') IS NOT NULL`;

/** Values: the flag ids. */
export const readFlagStates: Read = {
  name: "pbflagd_flag_states",
  versioned: FLAG_STATES(VERSION),
  plain: FLAG_STATES(NO_VERSION),
};

/** Values: the entity ids. */
export const readOverrides: Read = {
  name: "pbflagd_overrides",
  versioned: OVERRIDES(VERSION),
  plain: OVERRIDES(NO_VERSION),
};

/**
 * Values: the revision that the caller knows and the whole version, or null. The overrides, which may be many, are
 * null where that version is still the one. Plain with `has_versions`: migrated since we looked.
 */
export const readKills: Read = {
  name: "pbflagd_kills",
  versioned: `
  SELECT v.version, $1::bigint AS since, true AS has_versions, ${KILLED_FLAGS} AS flag_ids,
    CASE WHEN v.version IS DISTINCT FROM $2::text THEN ${KILLED_OVERRIDES} END AS overrides,
    c.known, c.flag_ids AS changed_flag_ids, c.entity_ids AS changed_entity_ids
  FROM (SELECT ${VERSION} AS version OFFSET 0) AS v, feature_flags.changes_since($1::bigint) AS c`,
  plain: `
  SELECT ${NO_VERSION} AS version, $1::bigint AS since, $2::text AS known_version, ${HAS_VERSIONS} AS has_versions,
    ${KILLED_FLAGS} AS flag_ids, ${KILLED_OVERRIDES} AS overrides,
    false AS known, '{}'::text[] AS changed_flag_ids, '{}'::text[] AS changed_entity_ids`,
};

/** Whether the tables are there at all, and our additions. */
export const DETECT = `
  SELECT to_regclass('feature_flags.flags') IS NOT NULL AND to_regclass('feature_flags.flag_overrides') IS NOT NULL
    AS has_tables, ${HAS_VERSIONS} AS has_versions`;
