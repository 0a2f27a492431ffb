/**
 * Databases as servers of pbflags leave them: the tables of design/storage.md, in our own words. Up to v0.10
 * they have neither `supported_values` nor `standalone_lease`.
 */
export const pbflagsVersions = ["v0.5", "v0.10", "v0.13"] as const;
export type PbflagsVersion = (typeof pbflagsVersions)[number];

/** SQL that makes such a database out of an empty one, with rows in every state. */
export function describeDatabase(version: PbflagsVersion): string {
  return [tables, version === "v0.13" ? additions : "", rows, version === "v0.13" ? additionalRows : ""].join(
    "\n",
  );
}

/** What must be the same afterwards: every column that they know, of every row. */
export function describeContents(version: PbflagsVersion): readonly string[] {
  const supported = version === "v0.13" ? ", supported_values" : "";
  return [
    "SELECT feature_id, display_name, description, owner, created_at, updated_at FROM feature_flags.features ORDER BY 1",
    `SELECT flag_id, feature_id, field_number, display_name, flag_type, layer, description, default_value, state, value,
       archived_at, created_at, updated_at${supported} FROM feature_flags.flags ORDER BY 1`,
    "SELECT flag_id, entity_id, state, value, created_at, updated_at FROM feature_flags.flag_overrides ORDER BY 1, 2",
    "SELECT id, flag_id, action, old_value, new_value, actor, created_at FROM feature_flags.flag_audit_log ORDER BY 1",
    "SELECT id, version_id, is_applied FROM goose_db_version ORDER BY 1",
    ...(version === "v0.13"
      ? ["SELECT id, instance_id, started_at, heartbeat_at FROM feature_flags.standalone_lease"]
      : []),
  ];
}

const tables = `
CREATE SCHEMA feature_flags;
SET search_path = feature_flags;
CREATE TABLE features (
  feature_id varchar(255) NOT NULL, display_name varchar(255) DEFAULT '' NOT NULL, description varchar(1024) DEFAULT '' NOT NULL,
  owner varchar(255) DEFAULT '' NOT NULL,
  created_at timestamp with time zone DEFAULT now() NOT NULL, updated_at timestamp with time zone DEFAULT now() NOT NULL,
  CONSTRAINT features_pkey PRIMARY KEY (feature_id));
CREATE TABLE flags (
  flag_id varchar(512) NOT NULL, feature_id varchar(255) NOT NULL, field_number integer NOT NULL,
  display_name varchar(255) DEFAULT '' NOT NULL, flag_type varchar(20) NOT NULL, layer varchar(50) DEFAULT 'GLOBAL' NOT NULL,
  description varchar(1024) DEFAULT '' NOT NULL, default_value bytea, state varchar(20) DEFAULT 'DEFAULT' NOT NULL, value bytea,
  archived_at timestamp with time zone,
  created_at timestamp with time zone DEFAULT now() NOT NULL, updated_at timestamp with time zone DEFAULT now() NOT NULL,
  CONSTRAINT flags_pkey PRIMARY KEY (flag_id),
  CONSTRAINT uq_flags_feature_field UNIQUE (feature_id, field_number),
  CONSTRAINT flags_feature_id_fkey FOREIGN KEY (feature_id) REFERENCES features (feature_id),
  CONSTRAINT valid_state CHECK (state = ANY (ARRAY['ENABLED', 'DEFAULT', 'KILLED'])));
CREATE INDEX idx_flags_killed ON flags (state) WHERE state = 'KILLED';
CREATE TABLE flag_overrides (
  flag_id varchar(512) NOT NULL, entity_id varchar(255) NOT NULL, state varchar(20) DEFAULT 'ENABLED' NOT NULL, value bytea,
  created_at timestamp with time zone DEFAULT now() NOT NULL, updated_at timestamp with time zone DEFAULT now() NOT NULL,
  CONSTRAINT flag_overrides_pkey PRIMARY KEY (flag_id, entity_id),
  CONSTRAINT flag_overrides_flag_id_fkey FOREIGN KEY (flag_id) REFERENCES flags (flag_id) ON DELETE CASCADE,
  CONSTRAINT valid_override_state CHECK (state = ANY (ARRAY['ENABLED', 'DEFAULT', 'KILLED'])));
CREATE INDEX idx_overrides_entity ON flag_overrides (entity_id);
CREATE INDEX idx_overrides_killed ON flag_overrides (state) WHERE state = 'KILLED';
CREATE TABLE flag_audit_log (
  id bigserial PRIMARY KEY, flag_id varchar(512) NOT NULL, action varchar(50) NOT NULL, old_value bytea, new_value bytea,
  actor varchar(255) NOT NULL, created_at timestamp with time zone DEFAULT now() NOT NULL);
CREATE INDEX idx_audit_flag ON flag_audit_log (flag_id, created_at DESC);
RESET search_path;
-- Their migration tool's own record.
CREATE TABLE goose_db_version (id serial PRIMARY KEY, version_id bigint NOT NULL, is_applied boolean NOT NULL, tstamp timestamp DEFAULT now());
INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true), (1, true);`;

const additions = `
ALTER TABLE feature_flags.flags ADD COLUMN supported_values bytea;
CREATE TABLE feature_flags.standalone_lease (
  id varchar(64) DEFAULT 'singleton' PRIMARY KEY, instance_id varchar(255) NOT NULL,
  started_at timestamp with time zone DEFAULT now() NOT NULL, heartbeat_at timestamp with time zone DEFAULT now() NOT NULL);
INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, true), (3, true);`;

// Values: \x0801 is true, \x12067765656b6c79 "weekly", \x12056461696c79 "daily", \x1805 5, \x3a040a020102 [1, 2], \xff none at all.
const rows = `
INSERT INTO feature_flags.features (feature_id, display_name, description, owner, created_at, updated_at) VALUES
  ('notifications', 'Notifications', 'How users hear of things', 'team-growth', '2026-01-05 10:00+00', '2026-02-01 10:00+00'),
  ('checkout', 'Checkout', '', '', '2026-01-06 10:00+00', '2026-01-06 10:00+00');
INSERT INTO feature_flags.flags
  (flag_id, feature_id, field_number, display_name, flag_type, layer, description, default_value, state, value, archived_at, created_at, updated_at) VALUES
  ('notifications/1', 'notifications', 1, 'email_enabled', 'BOOL', 'USER', 'E-mail at all', '\\x0801', 'DEFAULT', NULL, NULL, '2026-01-05 10:00+00', '2026-01-05 10:00+00'),
  ('notifications/2', 'notifications', 2, 'digest', 'STRING', 'GLOBAL', '', '\\x12056461696c79', 'ENABLED', '\\x12067765656b6c79', NULL, '2026-01-05 10:00+00', '2026-03-01 10:00+00'),
  ('notifications/3', 'notifications', 3, 'per_hour', 'INT64', 'USER', '', '\\x1805', 'KILLED', '\\x180a', NULL, '2026-01-05 10:00+00', '2026-03-02 10:00+00'),
  ('notifications/4', 'notifications', 4, 'ratio', 'DOUBLE', 'GLOBAL', '', NULL, 'KILLED', NULL, NULL, '2026-01-05 10:00+00', '2026-03-03 10:00+00'),
  ('notifications/5', 'notifications', 5, 'retired', 'BOOL', 'USER', '', '\\x0800', 'ENABLED', '\\x0801', '2026-04-01 10:00+00', '2026-01-05 10:00+00', '2026-04-01 10:00+00'),
  ('checkout/1', 'checkout', 1, 'retry_after', 'INT64_LIST', 'GLOBAL', '', '\\x3a040a020102', 'ENABLED', '\\xff', NULL, '2026-01-06 10:00+00', '2026-01-06 10:00+00');
INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, state, value, created_at, updated_at) VALUES
  ('notifications/1', 'user-1', 'ENABLED', '\\x0800', '2026-02-01 10:00+00', '2026-02-01 10:00+00'),
  ('notifications/1', 'user-2', 'KILLED', NULL, '2026-02-01 10:00+00', '2026-02-02 10:00+00'),
  ('notifications/3', 'user-1', 'DEFAULT', NULL, '2026-02-01 10:00+00', '2026-02-01 10:00+00'),
  ('notifications/5', 'user-1', 'ENABLED', '\\x0801', '2026-02-01 10:00+00', '2026-02-01 10:00+00');
INSERT INTO feature_flags.flag_audit_log (flag_id, action, old_value, new_value, actor, created_at) VALUES
  ('notifications/2', 'UPDATE_STATE', NULL, '\\x12067765656b6c79', 'ann', '2026-03-01 10:00+00'),
  ('notifications/1', 'CREATE_OVERRIDE', NULL, '\\x0800', 'ben', '2026-02-01 10:00+00');`;

const additionalRows = `
UPDATE feature_flags.flags SET supported_values = '\\x0a056461696c790a067765656b6c79' WHERE flag_id = 'notifications/2';
INSERT INTO feature_flags.standalone_lease (instance_id, started_at, heartbeat_at) VALUES ('host-1', '2026-05-01 10:00+00', '2026-05-01 11:00+00');`;
