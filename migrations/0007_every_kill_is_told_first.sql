-- A flag that is killed from its first row on, or deleted while it is killed, is a kill or the end of one as well, and
-- TRUNCATE, which does not say what it took, may be.
CREATE TRIGGER announce_kill_on_insert AFTER INSERT ON feature_flags.flags
  FOR EACH ROW WHEN (NEW.state = 'KILLED')
  EXECUTE FUNCTION feature_flags.announce_kill();
CREATE TRIGGER announce_kill_on_delete AFTER DELETE ON feature_flags.flags
  FOR EACH ROW WHEN (OLD.state = 'KILLED')
  EXECUTE FUNCTION feature_flags.announce_kill();
CREATE TRIGGER announce_kill_on_truncate AFTER TRUNCATE ON feature_flags.flags
  FOR EACH STATEMENT EXECUTE FUNCTION feature_flags.announce_kill();
CREATE TRIGGER announce_kill_on_truncate AFTER TRUNCATE ON feature_flags.flag_overrides
  FOR EACH STATEMENT EXECUTE FUNCTION feature_flags.announce_kill();
