-- The tables as pbflags created them. On a database of pbflags v0.4 to v0.13 only what is missing is added.

CREATE TABLE IF NOT EXISTS feature_flags.features (
  feature_id   varchar(255)  PRIMARY KEY,
  display_name varchar(255)  NOT NULL DEFAULT '',
  description  varchar(1024) NOT NULL DEFAULT '',
  owner        varchar(255)  NOT NULL DEFAULT '',
  created_at   timestamptz   NOT NULL DEFAULT now(),
  updated_at   timestamptz   NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS feature_flags.flags (
  flag_id       varchar(512)  PRIMARY KEY,
  feature_id    varchar(255)  NOT NULL REFERENCES feature_flags.features (feature_id),
  field_number  integer       NOT NULL,
  display_name  varchar(255)  NOT NULL DEFAULT '',
  flag_type     varchar(20)   NOT NULL,
  layer         varchar(50)   NOT NULL DEFAULT 'GLOBAL',
  description   varchar(1024) NOT NULL DEFAULT '',
  default_value bytea,
  state         varchar(20)   NOT NULL DEFAULT 'DEFAULT',
  value         bytea,
  archived_at   timestamptz,
  created_at    timestamptz   NOT NULL DEFAULT now(),
  updated_at    timestamptz   NOT NULL DEFAULT now(),
  CONSTRAINT valid_state CHECK (state IN ('ENABLED', 'DEFAULT', 'KILLED')),
  CONSTRAINT uq_flags_feature_field UNIQUE (feature_id, field_number)
);

-- Theirs from v0.11.
ALTER TABLE feature_flags.flags ADD COLUMN IF NOT EXISTS supported_values bytea;

CREATE INDEX IF NOT EXISTS idx_flags_killed ON feature_flags.flags (state) WHERE state = 'KILLED';

CREATE TABLE IF NOT EXISTS feature_flags.flag_overrides (
  flag_id    varchar(512) NOT NULL REFERENCES feature_flags.flags (flag_id) ON DELETE CASCADE,
  entity_id  varchar(255) NOT NULL,
  state      varchar(20)  NOT NULL DEFAULT 'ENABLED',
  value      bytea,
  created_at timestamptz  NOT NULL DEFAULT now(),
  updated_at timestamptz  NOT NULL DEFAULT now(),
  PRIMARY KEY (flag_id, entity_id),
  CONSTRAINT valid_override_state CHECK (state IN ('ENABLED', 'DEFAULT', 'KILLED'))
);

CREATE INDEX IF NOT EXISTS idx_overrides_entity ON feature_flags.flag_overrides (entity_id);
CREATE INDEX IF NOT EXISTS idx_overrides_killed ON feature_flags.flag_overrides (state) WHERE state = 'KILLED';

CREATE TABLE IF NOT EXISTS feature_flags.flag_audit_log (
  id         bigserial    PRIMARY KEY,
  flag_id    varchar(512) NOT NULL,
  action     varchar(50)  NOT NULL,
  old_value  bytea,
  new_value  bytea,
  actor      varchar(255) NOT NULL,
  created_at timestamptz  NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS idx_audit_flag ON feature_flags.flag_audit_log (flag_id, created_at DESC);

-- Only pbflags' standalone mode (from v0.11) uses this one. It is here so that such a server starts.
CREATE TABLE IF NOT EXISTS feature_flags.standalone_lease (
  id           varchar(64)  PRIMARY KEY DEFAULT 'singleton',
  instance_id  varchar(255) NOT NULL,
  started_at   timestamptz  NOT NULL DEFAULT now(),
  heartbeat_at timestamptz  NOT NULL DEFAULT now()
);
