-- Whoever follows changes spares the database by looking at many at once. A kill, and the end of one, should not wait for
-- that: it is announced on a channel of its own, just before the change is announced to all. Once a transaction, however
-- many it kills: Postgres sends what is the same only once.
CREATE FUNCTION feature_flags.announce_kill() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify('feature_flags_kills', '');
  RETURN NULL;
END $$;

CREATE TRIGGER announce_kill AFTER UPDATE OF state ON feature_flags.flags
  FOR EACH ROW WHEN (NEW.state IS DISTINCT FROM OLD.state AND 'KILLED' IN (OLD.state, NEW.state))
  EXECUTE FUNCTION feature_flags.announce_kill();

CREATE TRIGGER announce_kill_on_insert AFTER INSERT ON feature_flags.flag_overrides
  FOR EACH ROW WHEN (NEW.state = 'KILLED')
  EXECUTE FUNCTION feature_flags.announce_kill();
CREATE TRIGGER announce_kill_on_update AFTER UPDATE OF state ON feature_flags.flag_overrides
  FOR EACH ROW WHEN (NEW.state IS DISTINCT FROM OLD.state AND 'KILLED' IN (OLD.state, NEW.state))
  EXECUTE FUNCTION feature_flags.announce_kill();
CREATE TRIGGER announce_kill_on_delete AFTER DELETE ON feature_flags.flag_overrides
  FOR EACH ROW WHEN (OLD.state = 'KILLED')
  EXECUTE FUNCTION feature_flags.announce_kill();
