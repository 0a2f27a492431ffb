-- Versions: how old and new states of this database are told apart, and what changed in between.
--
-- A statement that changes what evaluation sees leaves a pending row in "changes". When its transaction
-- commits, a deferred trigger seals the row: under an advisory lock it takes the next revision. The lock is
-- held from there to the end of the commit, so revisions become visible in their own order, whatever
-- order the transactions began in, and an open transaction holds up nobody.

-- One row: where this database comes from. A restored backup brings the row along, hence epoch() adds more.
CREATE TABLE feature_flags.pbflagd_meta (
  only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
  origin     uuid        NOT NULL DEFAULT gen_random_uuid(),
  created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO feature_flags.pbflagd_meta DEFAULT VALUES;

CREATE TABLE feature_flags.changes (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- NULL while pending: nobody but the transaction itself ever sees that.
  revision   bigint,
  -- NULL: too many to list.
  flag_ids   text[],
  entity_ids text[],
  -- Just before the commit.
  at         timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- Of the server that took the change.
  timeline   integer     NOT NULL DEFAULT 0,
  tx         xid8        NOT NULL DEFAULT pg_current_xact_id()
);
CREATE UNIQUE INDEX idx_changes_revision ON feature_flags.changes (revision) WHERE revision IS NOT NULL;
CREATE INDEX idx_changes_pending ON feature_flags.changes (tx) WHERE revision IS NULL;
CREATE SEQUENCE feature_flags.changes_revision_seq;
-- The state that was here first is revision 0.
INSERT INTO feature_flags.changes (revision, flag_ids, entity_ids) VALUES (0, '{}', '{}');

-- The server's timeline; 0 where it does not tell. On a primary it is right from the end of the promotion
-- on: the control file follows only with the next checkpoint.
CREATE FUNCTION feature_flags.server_timeline() RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT pg_is_in_recovery() THEN
    RETURN ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer;
  END IF;
  RETURN (
    SELECT greatest(c.timeline_id, r.min_recovery_end_timeline) FROM pg_control_checkpoint() AS c, pg_control_recovery() AS r
  );
EXCEPTION WHEN OTHERS THEN
  -- Not permitted, or not offered by this provider.
  RETURN 0;
END $$;

CREATE FUNCTION feature_flags.server_identifier() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN (SELECT to_hex(system_identifier) FROM pg_control_system());
EXCEPTION WHEN OTHERS THEN
  RETURN '0';
END $$;

-- origin . server . timeline . database . table: a restore into another cluster, a promotion, a clone of the
-- database, and a restore into this very database each change one of them.
CREATE FUNCTION feature_flags.epoch_of(timeline integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT concat_ws('.',
    m.origin,
    feature_flags.server_identifier(),
    greatest(timeline, feature_flags.server_timeline()),
    (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()),
    'feature_flags.changes'::regclass::oid)
  FROM feature_flags.pbflagd_meta AS m
$$;

CREATE FUNCTION feature_flags.version() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  newest record;
BEGIN
  SELECT c.revision, c.timeline INTO newest
    FROM feature_flags.changes AS c WHERE c.revision IS NOT NULL ORDER BY c.revision DESC LIMIT 1;
  RETURN feature_flags.epoch_of(coalesce(newest.timeline, 0)) || ':' || coalesce(newest.revision, 0);
END $$;

CREATE FUNCTION feature_flags.changes_since(since bigint, OUT known boolean, OUT flag_ids text[], OUT entity_ids text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  newest    bigint;
  all_known boolean;
  ids_max   CONSTANT integer := 5000;
BEGIN
  known := false;
  flag_ids := '{}';
  entity_ids := '{}';
  SELECT max(c.revision) INTO newest FROM feature_flags.changes AS c WHERE c.revision IS NOT NULL;
  -- Rows are dropped from the oldest on: if one from "since" or before is here, so are all after it.
  IF since IS NULL OR newest IS NULL OR since > newest OR newest - since > 10000
    OR NOT EXISTS (SELECT FROM feature_flags.changes AS c WHERE c.revision <= since) THEN
    RETURN;
  END IF;
  IF since = newest THEN
    known := true;
    RETURN;
  END IF;
  SELECT bool_and(c.flag_ids IS NOT NULL AND c.entity_ids IS NOT NULL) INTO all_known
    FROM feature_flags.changes AS c WHERE c.revision > since;
  IF NOT all_known THEN
    RETURN;
  END IF;
  SELECT coalesce(array_agg(ids.id), '{}') INTO flag_ids FROM (
    SELECT DISTINCT u.id FROM feature_flags.changes AS c, unnest(c.flag_ids) AS u (id) WHERE c.revision > since LIMIT ids_max + 1
  ) AS ids;
  SELECT coalesce(array_agg(ids.id), '{}') INTO entity_ids FROM (
    SELECT DISTINCT u.id FROM feature_flags.changes AS c, unnest(c.entity_ids) AS u (id) WHERE c.revision > since LIMIT ids_max + 1
  ) AS ids;
  known := cardinality(flag_ids) + cardinality(entity_ids) <= ids_max;
  IF NOT known THEN
    flag_ids := '{}';
    entity_ids := '{}';
  END IF;
END $$;

CREATE FUNCTION feature_flags.new_epoch() RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE feature_flags.pbflagd_meta SET origin = gen_random_uuid();
  INSERT INTO feature_flags.changes (flag_ids, entity_ids) VALUES (NULL, NULL);
  RETURN feature_flags.epoch_of(0);
END $$;

-- Followers ask for what changed since a revision; beyond an hour or 100,000 rows they start afresh.
-- Called under the seal's lock, so two never prune at once.
CREATE FUNCTION feature_flags.prune_changes(newest bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  rows_max CONSTANT integer := 512;
  last_old bigint;
BEGIN
  -- Always the oldest ones without a gap: changes_since() relies on it.
  SELECT max(old.revision) INTO last_old FROM (
    SELECT c.revision, c.at FROM feature_flags.changes AS c
    WHERE c.revision IS NOT NULL ORDER BY c.revision LIMIT rows_max FOR UPDATE NOWAIT
  ) AS old
  WHERE old.revision < newest AND (old.at < clock_timestamp() - interval '1 hour' OR old.revision <= newest - 100000);
  DELETE FROM feature_flags.changes AS c WHERE c.revision <= last_old;
EXCEPTION WHEN serialization_failure OR lock_not_available THEN
  -- At REPEATABLE READ somebody else pruned since our snapshot; or somebody looks at the rows. Next time.
  NULL;
END $$;

CREATE FUNCTION feature_flags.seal_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  ids_max       CONSTANT integer := 5000;
  serializable  boolean := current_setting('transaction_isolation') = 'serializable';
  next_revision bigint;
  newest        bigint;
  change        record;
  notice        jsonb;
  listed        jsonb;
BEGIN
  -- One transaction, one revision: the first row takes in the others, and their turn finds them gone.
  IF NOT EXISTS (SELECT FROM feature_flags.changes AS c WHERE c.id = NEW.id AND c.revision IS NULL) THEN
    RETURN NULL;
  END IF;
  WITH merged AS (
    DELETE FROM feature_flags.changes AS c
    WHERE c.tx = pg_current_xact_id() AND c.revision IS NULL AND c.id <> NEW.id
    RETURNING c.flag_ids, c.entity_ids
  ), pending AS (
    SELECT NEW.flag_ids, NEW.entity_ids UNION ALL SELECT m.flag_ids, m.entity_ids FROM merged AS m
  )
  SELECT
    CASE WHEN bool_and(p.flag_ids IS NOT NULL) THEN
      (SELECT coalesce(array_agg(DISTINCT u.id), '{}') FROM pending AS f, unnest(f.flag_ids) AS u (id)) END AS flag_ids,
    CASE WHEN bool_and(p.entity_ids IS NOT NULL) THEN
      (SELECT coalesce(array_agg(DISTINCT u.id), '{}') FROM pending AS e, unnest(e.entity_ids) AS u (id)) END AS entity_ids
    INTO change FROM pending AS p;

  -- "pbflagd" and 1.
  PERFORM pg_advisory_xact_lock(8098147695642240001);
  next_revision := nextval('feature_flags.changes_revision_seq');
  IF NOT serializable THEN
    -- A data-only restore may have set the sequence back; a kill must not fail for that.
    SELECT max(c.revision) INTO newest FROM feature_flags.changes AS c WHERE c.revision IS NOT NULL;
    IF next_revision <= newest THEN
      next_revision := newest + 1;
      PERFORM setval('feature_flags.changes_revision_seq', next_revision);
    END IF;
  END IF;
  UPDATE feature_flags.changes AS c SET
    revision = next_revision,
    flag_ids = CASE WHEN cardinality(change.flag_ids) <= ids_max THEN change.flag_ids END,
    entity_ids = CASE WHEN cardinality(change.entity_ids) <= ids_max THEN change.entity_ids END,
    at = clock_timestamp(),
    timeline = feature_flags.server_timeline()
  WHERE c.id = NEW.id
  RETURNING c.flag_ids, c.entity_ids, c.at, c.timeline INTO change;

  notice := jsonb_build_object(
    'epoch', feature_flags.epoch_of(change.timeline),
    'revision', next_revision,
    'at', floor(extract(epoch FROM change.at) * 1000)::bigint);
  listed := notice || jsonb_build_object('flags', change.flag_ids, 'entities', change.entity_ids);
  IF change.flag_ids IS NULL OR change.entity_ids IS NULL OR octet_length(listed::text) >= 7900 THEN
    listed := notice || '{"all": true}';
  END IF;
  PERFORM pg_notify('feature_flags_changed', listed::text);

  -- At SERIALIZABLE, reading the oldest rows would only bring conflicts.
  IF next_revision % 64 = 0 AND NOT serializable THEN
    PERFORM feature_flags.prune_changes(next_revision);
  END IF;
  RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER seal_changes AFTER INSERT ON feature_flags.changes
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.revision IS NULL)
  EXECUTE FUNCTION feature_flags.seal_changes();

-- What evaluation sees of a flag: that it is there, its state, its value, whether it is archived, its type.
-- Names, descriptions, layers and defaults are read from descriptors.
CREATE FUNCTION feature_flags.record_flag_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  ids text[];
BEGIN
  IF TG_OP = 'INSERT' THEN
    SELECT coalesce(array_agg(n.flag_id), '{}') INTO ids FROM new_rows AS n;
  ELSIF TG_OP = 'DELETE' THEN
    SELECT coalesce(array_agg(o.flag_id), '{}') INTO ids FROM old_rows AS o;
  ELSIF TG_OP = 'UPDATE' THEN
    SELECT coalesce(array_agg(DISTINCT changed.flag_id), '{}') INTO ids FROM (
      (SELECT o.flag_id, o.state, o.value, o.archived_at IS NULL, o.flag_type FROM old_rows AS o
        EXCEPT SELECT n.flag_id, n.state, n.value, n.archived_at IS NULL, n.flag_type FROM new_rows AS n)
      UNION ALL
      (SELECT n.flag_id, n.state, n.value, n.archived_at IS NULL, n.flag_type FROM new_rows AS n
        EXCEPT SELECT o.flag_id, o.state, o.value, o.archived_at IS NULL, o.flag_type FROM old_rows AS o)
    ) AS changed;
  END IF;
  -- NULL after TRUNCATE, which does not say what it took.
  IF ids IS NULL OR cardinality(ids) > 0 THEN
    INSERT INTO feature_flags.changes (flag_ids, entity_ids) VALUES (ids, '{}');
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION feature_flags.record_override_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  ids text[];
BEGIN
  IF TG_OP = 'INSERT' THEN
    SELECT coalesce(array_agg(DISTINCT n.entity_id), '{}') INTO ids FROM new_rows AS n;
  ELSIF TG_OP = 'DELETE' THEN
    SELECT coalesce(array_agg(DISTINCT o.entity_id), '{}') INTO ids FROM old_rows AS o;
  ELSIF TG_OP = 'UPDATE' THEN
    SELECT coalesce(array_agg(DISTINCT changed.entity_id), '{}') INTO ids FROM (
      (SELECT o.flag_id, o.entity_id, o.state, o.value FROM old_rows AS o
        EXCEPT SELECT n.flag_id, n.entity_id, n.state, n.value FROM new_rows AS n)
      UNION ALL
      (SELECT n.flag_id, n.entity_id, n.state, n.value FROM new_rows AS n
        EXCEPT SELECT o.flag_id, o.entity_id, o.state, o.value FROM old_rows AS o)
    ) AS changed;
  END IF;
  IF ids IS NULL OR cardinality(ids) > 0 THEN
    INSERT INTO feature_flags.changes (flag_ids, entity_ids) VALUES ('{}', ids);
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER changes_on_insert AFTER INSERT ON feature_flags.flags
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION feature_flags.record_flag_changes();
CREATE TRIGGER changes_on_update AFTER UPDATE ON feature_flags.flags
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION feature_flags.record_flag_changes();
CREATE TRIGGER changes_on_delete AFTER DELETE ON feature_flags.flags
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION feature_flags.record_flag_changes();
CREATE TRIGGER changes_on_truncate AFTER TRUNCATE ON feature_flags.flags
  FOR EACH STATEMENT EXECUTE FUNCTION feature_flags.record_flag_changes();

CREATE TRIGGER changes_on_insert AFTER INSERT ON feature_flags.flag_overrides
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION feature_flags.record_override_changes();
CREATE TRIGGER changes_on_update AFTER UPDATE ON feature_flags.flag_overrides
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION feature_flags.record_override_changes();
CREATE TRIGGER changes_on_delete AFTER DELETE ON feature_flags.flag_overrides
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION feature_flags.record_override_changes();
CREATE TRIGGER changes_on_truncate AFTER TRUNCATE ON feature_flags.flag_overrides
  FOR EACH STATEMENT EXECUTE FUNCTION feature_flags.record_override_changes();

COMMENT ON FUNCTION feature_flags.version() IS
  'epoch:revision of the state that the calling statement sees. Revisions compare within one epoch only.';
COMMENT ON FUNCTION feature_flags.changes_since(bigint) IS
  'Which flags and entities changed after a revision of this epoch; not known: anything may have.';
COMMENT ON FUNCTION feature_flags.new_epoch() IS
  'To be called after a restore that brought back the whole data folder, such as a volume snapshot.';
