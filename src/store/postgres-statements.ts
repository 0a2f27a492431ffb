import { KILLED_OVERRIDES_MAX } from "../evaluation/kill-set.ts";

/** A statement once for a database with our additions, and once for one that pbflags alone has made. */
export interface Read {
  readonly name: string;
  readonly versioned: string;
  /** The first where the server knows no XML. Unset: it needs none. */
  readonly withoutXml?: string;
  readonly plain: string;
}

// Version and rows come from one statement, and so from one snapshot. Behind OFFSET 0 the version is asked for
// once, not for each row. There is always at least one row, which tells an empty answer from a lost one.

const OVERRIDES = (version: string) => `
  SELECT v.version, o.flag_id, o.entity_id, o.state, o.value
  FROM (SELECT ${version} AS version OFFSET 0) AS v
  LEFT JOIN feature_flags.flag_overrides AS o ON o.entity_id = ANY ($1::text[])`;

// Lists are sent as JSON: pg reads arrays letter by letter, which for 10,000 ids takes tens of milliseconds.

// No row takes so long to be read that it holds anybody up.

export const FLAGS_A_ROW_MAX = 256;
/** Longer values stand in a row of their own. */
const SHORT_VALUE_BYTES = 1_024;

/** Flags that differ in nothing but their ids and values are one row: each row takes its time. */
const FLAG_STATES = (version: string) => `
  SELECT v.version, f.flag_type, f.state, f.archived,
    to_json(array_agg(ARRAY[f.flag_id, encode(f.value, 'hex')]) FILTER (WHERE f.flag_id IS NOT NULL)) AS flags
  FROM (SELECT ${version} AS version OFFSET 0) AS v
  LEFT JOIN (
    SELECT flag_id::text, flag_type, state, value, archived_at IS NOT NULL AS archived,
      (row_number() OVER () - 1) / ${FLAGS_A_ROW_MAX} AS part
    FROM feature_flags.flags WHERE flag_id = ANY ($1::text[])
  ) AS f ON true
  GROUP BY v.version, f.flag_type, f.state, f.archived, f.part,
    CASE WHEN octet_length(f.value) > ${SHORT_VALUE_BYTES} THEN f.flag_id END`;

const KILLED_FLAGS = `
  to_json(ARRAY (SELECT f.flag_id::text FROM feature_flags.flags AS f WHERE f.state = 'KILLED'))`;

const KILLED_OVERRIDES = `
  to_json(ARRAY (SELECT ARRAY[o.flag_id, o.entity_id]::text[]
                 FROM feature_flags.flag_overrides AS o WHERE o.state = 'KILLED'
                 ORDER BY o.flag_id, o.entity_id LIMIT ${KILLED_OVERRIDES_MAX}))`;

/** Whether no override has changed since the version that the caller knows. */
const SAME_OVERRIDES = `
  v.version = $2::text OR c.known AND cardinality(c.entity_ids) = 0
  AND regexp_replace(v.version, ':[0-9]+$', '') = regexp_replace($2::text, ':[0-9]+$', '')`;

/**
 * How long ago the newest revision was committed, in milliseconds. Not every role may read that table, and a statement
 * needs its rights on all that it names, used or not: so it is named in a query within the query, which sees the
 * same snapshot.
 */
const COMMITTED_AGO = `
  CASE WHEN has_table_privilege('feature_flags.changes', 'SELECT') THEN
    substring(query_to_xml($$
      SELECT extract(epoch FROM clock_timestamp() - c.at) * 1000 AS ms
      FROM feature_flags.changes AS c WHERE c.revision IS NOT NULL ORDER BY c.revision DESC LIMIT 1
    $$, false, true, '')::text FROM '<ms>(.*)</ms>')::double precision END`;

/**
 * The same of each id that changed after a revision, by its last commit. In hexadecimal, since XML would spell the ids
 * differently.
 */
const CHANGED_AGO = (since: string) => `
  CASE WHEN has_table_privilege('feature_flags.changes', 'SELECT') THEN
    convert_from(decode(substring(query_to_xml(format($$
      SELECT encode(convert_to(json_build_object(
        'flags', (SELECT json_object_agg(u.id, extract(epoch FROM clock_timestamp() - u.at) * 1000) FROM (
          SELECT f.id, max(c.at) AS at FROM feature_flags.changes AS c, unnest(c.flag_ids) AS f (id)
          WHERE c.revision > %1$L::bigint GROUP BY f.id) AS u),
        'entities', (SELECT json_object_agg(u.id, extract(epoch FROM clock_timestamp() - u.at) * 1000) FROM (
          SELECT e.id, max(c.at) AS at FROM feature_flags.changes AS c, unnest(c.entity_ids) AS e (id)
          WHERE c.revision > %1$L::bigint GROUP BY e.id) AS u)
      )::text, 'UTF8'), 'hex') AS hex
    $$, ${since}), false, true, '')::text FROM '<hex>(.*)</hex>'), 'hex'), 'UTF8')::json END`;

const NO_COMMITTED_AGO = "NULL::double precision";
const NO_CHANGED_AGO = "NULL::json";
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

const KILLS = (committedAgo: string, changedAgo: string) => `
  SELECT v.version, $1::bigint AS since, true AS has_versions, ${KILLED_FLAGS} AS flag_ids,
    CASE WHEN ${SAME_OVERRIDES} THEN NULL ELSE ${KILLED_OVERRIDES} END AS overrides,
    c.known, to_json(c.flag_ids) AS changed_flag_ids, to_json(c.entity_ids) AS changed_entity_ids,
    ${committedAgo} AS committed_ago_ms,
    CASE WHEN c.known THEN ${changedAgo} END AS changed_ago_ms
  FROM (SELECT ${VERSION} AS version OFFSET 0) AS v, feature_flags.changes_since($1::bigint) AS c`;

/**
 * Values: the revision that the caller knows and the whole version, or null. The overrides, which may be many, are
 * null where none has changed since. Plain with `has_versions`: migrated since we looked.
 */
export const readKills: Read = {
  name: "pbflagd_kills",
  versioned: KILLS(COMMITTED_AGO, CHANGED_AGO("$1::bigint")),
  withoutXml: KILLS(NO_COMMITTED_AGO, NO_CHANGED_AGO),
  plain: `
  SELECT ${NO_VERSION} AS version, $1::bigint AS since, $2::text AS known_version, ${HAS_VERSIONS} AS has_versions,
    ${KILLED_FLAGS} AS flag_ids, ${KILLED_OVERRIDES} AS overrides,
    false AS known, '[]'::json AS changed_flag_ids, '[]'::json AS changed_entity_ids,
    ${NO_COMMITTED_AGO} AS committed_ago_ms, ${NO_CHANGED_AGO} AS changed_ago_ms`,
};

/** Whether the tables are there at all, and our additions. */
export const DETECT = `
  SELECT to_regclass('feature_flags.flags') IS NOT NULL AND to_regclass('feature_flags.flag_overrides') IS NOT NULL
    AS has_tables, ${HAS_VERSIONS} AS has_versions`;

/** Where triggers of ours announce what was committed. */
export const NOTICE_CHANNEL = "feature_flags_changed";

/** Comes just before the notice of a transaction that kills or revives something. */
export const KILL_CHANNEL = "feature_flags_kills";

export const LISTEN = `LISTEN ${NOTICE_CHANNEL}; LISTEN ${KILL_CHANNEL}`;

/** Whether the session that answers listens, which one it is, and whether there is anybody to announce anything. */
export const READ_LISTENING = `
  SELECT pg_backend_pid() AS session,
    EXISTS (SELECT FROM pg_listening_channels() AS channel WHERE channel = '${NOTICE_CHANNEL}') AS listens,
    ${HAS_VERSIONS} AS announces`;
