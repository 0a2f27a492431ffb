-- A kill loses nothing, whoever writes it, and every change of state leaves a trace, whoever makes it.

-- What the flag had before it was killed; set while it is KILLED, and NULL where nobody knows.
ALTER TABLE feature_flags.flags ADD COLUMN restore_state varchar(20);
ALTER TABLE feature_flags.flags ADD COLUMN restore_value bytea;

CREATE FUNCTION feature_flags.check_state(state text, name text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF upper(btrim(state)) IN ('ENABLED', 'DEFAULT', 'KILLED') THEN
    RETURN upper(btrim(state));
  END IF;
  RAISE EXCEPTION 'Cannot set the state of "%": expected ENABLED, DEFAULT or KILLED, got "%"', name, state USING ERRCODE = 'PF002';
END $$;

CREATE FUNCTION feature_flags.keep_what_was_killed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    NEW.state := feature_flags.check_state(NEW.state, NEW.flag_id);
    RETURN NEW;
  END IF;
  IF NEW.state IS DISTINCT FROM OLD.state THEN
    NEW.state := feature_flags.check_state(NEW.state, NEW.flag_id);
  END IF;

  IF NEW.state = 'KILLED' THEN
    -- A kill that names no value means to stop the flag, not to forget what it had.
    NEW.value := coalesce(NEW.value, OLD.value);
    IF OLD.state <> 'KILLED' THEN
      NEW.restore_state := OLD.state;
      NEW.restore_value := OLD.value;
    ELSIF NEW.value IS DISTINCT FROM OLD.value THEN
      NEW.restore_state := 'ENABLED';
      NEW.restore_value := NEW.value;
    END IF;
  ELSE
    NEW.restore_state := NULL;
    NEW.restore_value := NULL;
  END IF;

  -- For who writes plain UPDATEs.
  IF NEW.updated_at = OLD.updated_at AND (NEW.state <> OLD.state OR NEW.value IS DISTINCT FROM OLD.value) THEN
    NEW.updated_at := now();
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER keep_what_was_killed BEFORE INSERT OR UPDATE OF state, value ON feature_flags.flags
  FOR EACH ROW EXECUTE FUNCTION feature_flags.keep_what_was_killed();

CREATE FUNCTION feature_flags.keep_killed_override() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    NEW.state := feature_flags.check_state(NEW.state, NEW.flag_id);
    RETURN NEW;
  END IF;
  IF NEW.state IS DISTINCT FROM OLD.state THEN
    NEW.state := feature_flags.check_state(NEW.state, NEW.flag_id);
  END IF;
  IF NEW.state = 'KILLED' THEN
    NEW.value := coalesce(NEW.value, OLD.value);
  END IF;
  IF NEW.updated_at = OLD.updated_at AND (NEW.state <> OLD.state OR NEW.value IS DISTINCT FROM OLD.value) THEN
    NEW.updated_at := now();
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER keep_killed_override BEFORE INSERT OR UPDATE OF state, value ON feature_flags.flag_overrides
  FOR EACH ROW EXECUTE FUNCTION feature_flags.keep_killed_override();

-- What pbflags' log has no room for.
ALTER TABLE feature_flags.flag_audit_log ADD COLUMN entity_id varchar(255);
ALTER TABLE feature_flags.flag_audit_log ADD COLUMN old_state varchar(20);
ALTER TABLE feature_flags.flag_audit_log ADD COLUMN new_state varchar(20);
-- The transaction of a writer that keeps its own log; NULL in rows that the triggers below write.
ALTER TABLE feature_flags.flag_audit_log ADD COLUMN tx xid8;
ALTER TABLE feature_flags.flag_audit_log ALTER COLUMN tx SET DEFAULT pg_current_xact_id();
CREATE INDEX idx_audit_tx ON feature_flags.flag_audit_log (tx) WHERE tx IS NOT NULL;

-- Runs at commit, so that it sees the writer's own row whether that came before the change or after it.
CREATE FUNCTION feature_flags.audit_change(
  flag text, entity text, actions text[], old_state text, new_state text, old_value bytea, new_value bytea
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (
    SELECT FROM feature_flags.flag_audit_log AS l
    WHERE l.tx = pg_current_xact_id() AND l.flag_id = flag AND l.action = ANY (actions)
  ) THEN
    RETURN;
  END IF;
  INSERT INTO feature_flags.flag_audit_log
    (flag_id, entity_id, action, old_state, new_state, old_value, new_value, actor, created_at, tx)
  VALUES (flag, entity, actions[1], old_state, new_state, old_value, new_value,
    left(coalesce(nullif(current_setting('pbflags.actor', true), ''), session_user), 255), now(), NULL);
END $$;

CREATE FUNCTION feature_flags.audit_flag() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM feature_flags.audit_change(NEW.flag_id, NULL, ARRAY['UPDATE_STATE'], NULL, NEW.state, NULL, NEW.value);
  ELSIF TG_OP = 'DELETE' THEN
    PERFORM feature_flags.audit_change(OLD.flag_id, NULL, ARRAY['DELETE_FLAG'], OLD.state, NULL, OLD.value, NULL);
  ELSE
    IF NEW.state IS DISTINCT FROM OLD.state OR NEW.value IS DISTINCT FROM OLD.value THEN
      PERFORM feature_flags.audit_change(NEW.flag_id, NULL, ARRAY['UPDATE_STATE'], OLD.state, NEW.state, OLD.value, NEW.value);
    END IF;
    IF OLD.archived_at IS NULL AND NEW.archived_at IS NOT NULL THEN
      PERFORM feature_flags.audit_change(NEW.flag_id, NULL, ARRAY['ARCHIVE_FLAG'], OLD.state, NEW.state, OLD.value, NEW.value);
    ELSIF OLD.archived_at IS NOT NULL AND NEW.archived_at IS NULL THEN
      PERFORM feature_flags.audit_change(NEW.flag_id, NULL, ARRAY['UNARCHIVE_FLAG'], OLD.state, NEW.state, OLD.value, NEW.value);
    END IF;
  END IF;
  RETURN NULL;
END $$;

-- A flag that is merely defined is no change of state, hence the conditions: 5,000 new definitions queue nothing.
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON feature_flags.flags
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.state <> 'DEFAULT' OR NEW.value IS NOT NULL)
  EXECUTE FUNCTION feature_flags.audit_flag();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON feature_flags.flags
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
    NEW.state IS DISTINCT FROM OLD.state OR NEW.value IS DISTINCT FROM OLD.value
    OR (NEW.archived_at IS NULL) <> (OLD.archived_at IS NULL))
  EXECUTE FUNCTION feature_flags.audit_flag();
CREATE CONSTRAINT TRIGGER audit_delete AFTER DELETE ON feature_flags.flags
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  EXECUTE FUNCTION feature_flags.audit_flag();

CREATE FUNCTION feature_flags.audit_override() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- A writer that upserts may not know which of the two it did.
  IF TG_OP = 'INSERT' THEN
    PERFORM feature_flags.audit_change(NEW.flag_id, NEW.entity_id, ARRAY['CREATE_OVERRIDE', 'UPDATE_OVERRIDE'],
      NULL, NEW.state, NULL, NEW.value);
  ELSIF TG_OP = 'DELETE' THEN
    PERFORM feature_flags.audit_change(OLD.flag_id, OLD.entity_id, ARRAY['REMOVE_OVERRIDE'], OLD.state, NULL, OLD.value, NULL);
  ELSE
    PERFORM feature_flags.audit_change(NEW.flag_id, NEW.entity_id, ARRAY['UPDATE_OVERRIDE', 'CREATE_OVERRIDE'],
      OLD.state, NEW.state, OLD.value, NEW.value);
  END IF;
  RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER audit_insert_or_delete AFTER INSERT OR DELETE ON feature_flags.flag_overrides
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  EXECUTE FUNCTION feature_flags.audit_override();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON feature_flags.flag_overrides
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.state IS DISTINCT FROM OLD.state OR NEW.value IS DISTINCT FROM OLD.value)
  EXECUTE FUNCTION feature_flags.audit_override();
