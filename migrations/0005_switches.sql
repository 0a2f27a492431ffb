-- Flipping a switch in SQL. Everything here runs with the rights of who calls it; docs/database.md says what
-- an operator's role needs. Errors: PF001 no such flag, PF002 a value that does not fit, PF003 an override on a
-- flag that does not vary, PF004 an entity id that cannot be.

-- By id or by alias. `doing` begins the error, as in 'Cannot kill'.
CREATE FUNCTION feature_flags.find_flag(name text, doing text DEFAULT 'Cannot find') RETURNS feature_flags.flags
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  flag    feature_flags.flags;
  feature text := regexp_replace(name, '[./][^./]*$', '');
  field   text := regexp_replace(name, '^.*[./]', '');
  similar_flags text;
BEGIN
  SELECT f.* INTO flag FROM feature_flags.flags AS f WHERE f.flag_id = name;
  IF NOT FOUND THEN
    -- A name may have moved to another number; the one in use goes first.
    SELECT f.* INTO flag FROM feature_flags.flags AS f
      WHERE f.feature_id = regexp_replace(name, '\.[^.]*$', '') AND f.display_name = field AND strpos(name, '.') > 0
      ORDER BY f.archived_at IS NOT NULL, f.field_number DESC LIMIT 1;
  END IF;
  IF FOUND THEN
    RETURN flag;
  END IF;
  SELECT string_agg(format('%s (%s)', s.flag_id, s.display_name), ', ') INTO similar_flags FROM (
    SELECT f.flag_id, f.display_name FROM feature_flags.flags AS f
    WHERE f.feature_id IN (feature, name) OR f.display_name = field
    ORDER BY f.feature_id, f.field_number LIMIT 10
  ) AS s;
  RAISE EXCEPTION '% "%": no such flag', doing, coalesce(name, 'NULL') USING
    ERRCODE = 'PF001',
    HINT = CASE
      WHEN similar_flags IS NOT NULL THEN
        format('There are: %s. If it is new in the descriptor set, run "pbflagd sync" first.', similar_flags)
      WHEN EXISTS (SELECT FROM feature_flags.flags) THEN
        'feature_flags.flag_status lists all flags. If it is new in the descriptor set, run "pbflagd sync" first.'
      ELSE 'This database knows no flags yet: run "pbflagd sync" with your descriptor set first.'
    END;
END $$;

-- The bytes of a value that somebody typed: a list as '[1, 2]' or '{1,2}', anything else as it is.
CREATE FUNCTION feature_flags.encode_text(flag_type text, given text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  list jsonb;
BEGIN
  IF flag_type NOT LIKE '%\_LIST' THEN
    RETURN feature_flags.encode_value(flag_type, to_jsonb(given));
  END IF;
  BEGIN
    list := CASE left(ltrim(given), 1) WHEN '[' THEN given::jsonb WHEN '{' THEN to_jsonb(given::text[]) END;
  EXCEPTION WHEN data_exception OR array_subscript_error THEN
    list := NULL;
  END;
  IF list IS NULL AND given IS NOT NULL THEN
    RAISE EXCEPTION 'expected a list such as ''%'', got "%"',
      CASE WHEN flag_type = 'STRING_LIST' THEN '["a", "b"]' WHEN flag_type = 'BOOL_LIST' THEN '[true, false]' ELSE '[1, 2]' END,
      left(given, 100) USING ERRCODE = 'PF002';
  END IF;
  RETURN feature_flags.encode_value(flag_type, list);
END $$;

CREATE FUNCTION feature_flags.encode_for(flag feature_flags.flags, given text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN feature_flags.encode_text(flag.flag_type, given);
EXCEPTION WHEN SQLSTATE 'PF002' THEN
  RAISE EXCEPTION 'Cannot set "%" (%): %', flag.flag_id, flag.flag_type, SQLERRM USING ERRCODE = 'PF002';
END $$;

CREATE FUNCTION feature_flags.encode_for(flag feature_flags.flags, given anyelement) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF pg_typeof(given) IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype) THEN
    RETURN feature_flags.encode_text(flag.flag_type, given::text);
  END IF;
  RETURN feature_flags.encode_value(flag.flag_type, to_jsonb(given));
EXCEPTION WHEN SQLSTATE 'PF002' THEN
  RAISE EXCEPTION 'Cannot set "%" (%): %', flag.flag_id, flag.flag_type, SQLERRM USING ERRCODE = 'PF002';
END $$;

CREATE FUNCTION feature_flags.kill(flag text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  id text := (feature_flags.find_flag(flag, 'Cannot kill')).flag_id;
BEGIN
  UPDATE feature_flags.flags AS f SET state = 'KILLED', updated_at = now() WHERE f.flag_id = id AND f.state <> 'KILLED';
  RETURN 'KILLED';
END $$;

CREATE FUNCTION feature_flags.revive(flag text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  id     text := (feature_flags.find_flag(flag, 'Cannot revive')).flag_id;
  result text;
BEGIN
  UPDATE feature_flags.flags AS f SET
    state = coalesce(f.restore_state, 'DEFAULT'),
    value = CASE WHEN f.restore_state IS NULL THEN f.value ELSE f.restore_value END,
    updated_at = now()
  WHERE f.flag_id = id AND f.state = 'KILLED'
  RETURNING f.state INTO result;
  IF NOT FOUND THEN
    SELECT f.state INTO result FROM feature_flags.flags AS f WHERE f.flag_id = id;
    RAISE NOTICE '"%" is not killed; its state is %', id, result;
  END IF;
  RETURN result;
END $$;

CREATE FUNCTION feature_flags.store_value(id text, bytes bytea) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  result text;
BEGIN
  UPDATE feature_flags.flags AS f SET
    state = CASE f.state WHEN 'KILLED' THEN 'KILLED' ELSE 'ENABLED' END,
    value = bytes,
    restore_state = CASE f.state WHEN 'KILLED' THEN 'ENABLED' END,
    restore_value = CASE f.state WHEN 'KILLED' THEN bytes END,
    updated_at = now()
  WHERE f.flag_id = id
  RETURNING f.state INTO result;
  IF result = 'KILLED' THEN
    RAISE NOTICE '"%" is killed and stays so: the value is served once it is revived', id;
  END IF;
  RETURN result;
END $$;

CREATE FUNCTION feature_flags.set_value(flag text, value text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_flag feature_flags.flags := feature_flags.find_flag(flag, 'Cannot set');
BEGIN
  RETURN feature_flags.store_value(found_flag.flag_id, feature_flags.encode_for(found_flag, value));
END $$;

CREATE FUNCTION feature_flags.set_value(flag text, value anyelement) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_flag feature_flags.flags := feature_flags.find_flag(flag, 'Cannot set');
BEGIN
  RETURN feature_flags.store_value(found_flag.flag_id, feature_flags.encode_for(found_flag, value));
END $$;

CREATE FUNCTION feature_flags.reset(flag text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  id     text := (feature_flags.find_flag(flag, 'Cannot reset')).flag_id;
  result text;
BEGIN
  -- The trigger keeps the value of a killed flag; reviving then takes the one that is not there.
  UPDATE feature_flags.flags AS f SET
    state = CASE f.state WHEN 'KILLED' THEN 'KILLED' ELSE 'DEFAULT' END,
    value = CASE f.state WHEN 'KILLED' THEN f.value END,
    restore_state = CASE f.state WHEN 'KILLED' THEN 'DEFAULT' END,
    restore_value = NULL,
    updated_at = now()
  WHERE f.flag_id = id
  RETURNING f.state INTO result;
  IF result = 'KILLED' THEN
    RAISE NOTICE '"%" is killed and stays so: once it is revived, the compiled default is served', id;
  END IF;
  RETURN result;
END $$;

CREATE FUNCTION feature_flags.check_entity(entity text, doing text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF entity IS NULL OR entity = '' OR length(entity) > 255 OR entity ~ '[\x01-\x1f\x7f]' THEN
    RAISE EXCEPTION '%: expected an entity id of 1 to 255 printable characters, got %', doing,
      coalesce(quote_literal(left(entity, 300)), 'NULL') USING ERRCODE = 'PF004';
  END IF;
END $$;

CREATE FUNCTION feature_flags.store_override(flag feature_flags.flags, entity text, bytes bytea) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF upper(btrim(flag.layer)) IN ('GLOBAL', '') THEN
    RAISE EXCEPTION 'Cannot override "%" for "%": the flag does not vary, its layer is GLOBAL', flag.flag_id, entity
      USING ERRCODE = 'PF003', HINT = 'feature_flags.set_value() sets it for all.';
  END IF;
  PERFORM feature_flags.check_entity(entity, format('Cannot override "%s"', flag.flag_id));
  INSERT INTO feature_flags.flag_overrides AS o (flag_id, entity_id, state, value)
    VALUES (flag.flag_id, entity, 'ENABLED', bytes)
    ON CONFLICT (flag_id, entity_id) DO UPDATE SET state = 'ENABLED', value = EXCLUDED.value, updated_at = now()
    WHERE o.state <> 'ENABLED' OR o.value IS DISTINCT FROM EXCLUDED.value;
  RETURN 'ENABLED';
END $$;

CREATE FUNCTION feature_flags.set_override(flag text, entity text, value text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_flag feature_flags.flags := feature_flags.find_flag(flag, 'Cannot override');
BEGIN
  RETURN feature_flags.store_override(found_flag, entity, feature_flags.encode_for(found_flag, value));
END $$;

CREATE FUNCTION feature_flags.set_override(flag text, entity text, value anyelement) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_flag feature_flags.flags := feature_flags.find_flag(flag, 'Cannot override');
BEGIN
  RETURN feature_flags.store_override(found_flag, entity, feature_flags.encode_for(found_flag, value));
END $$;

CREATE FUNCTION feature_flags.remove_override(flag text, entity text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  id text := (feature_flags.find_flag(flag, 'Cannot remove an override of')).flag_id;
BEGIN
  DELETE FROM feature_flags.flag_overrides AS o WHERE o.flag_id = id AND o.entity_id = entity;
  IF NOT FOUND THEN
    RAISE NOTICE '"%" has no override for "%"', id, entity;
  END IF;
  RETURN FOUND;
END $$;

-- Why a stored value is not served; NULL where it is fine, or where there is none.
CREATE FUNCTION feature_flags.value_problem(flag_type text, bytes bytea, found_type text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN bytes IS NULL OR found_type = flag_type THEN NULL
    WHEN found_type IS NULL THEN 'the stored value cannot be read'
    ELSE 'the stored value is ' || found_type
  END
$$;

CREATE VIEW feature_flags.flag_status AS
  SELECT
    f.flag_id,
    concat(f.feature_id, '.', f.display_name) AS alias,
    f.flag_type,
    f.layer,
    f.state,
    stored.value,
    feature_flags.decode_value(f.default_value) AS default_value,
    -- What revive() brings back.
    CASE f.state WHEN 'KILLED' THEN coalesce(f.restore_state, 'DEFAULT') END AS revives_to,
    CASE
      WHEN f.state <> 'KILLED' THEN NULL
      WHEN f.restore_state IS NULL THEN stored.value
      ELSE feature_flags.decode_value(f.restore_value)
    END AS revives_to_value,
    f.archived_at IS NOT NULL AS archived,
    (SELECT count(*) FROM feature_flags.flag_overrides AS o WHERE o.flag_id = f.flag_id) AS overrides,
    feature_flags.value_problem(f.flag_type, f.value, stored.flag_type) AS problem,
    f.description,
    f.updated_at
  FROM feature_flags.flags AS f, feature_flags.read_value(f.value) AS stored
  ORDER BY f.feature_id, f.field_number;

CREATE VIEW feature_flags.override_status AS
  SELECT
    o.flag_id,
    concat(f.feature_id, '.', f.display_name) AS alias,
    o.entity_id,
    o.state,
    stored.value,
    feature_flags.value_problem(f.flag_type, o.value, stored.flag_type) AS problem,
    o.updated_at
  FROM feature_flags.flag_overrides AS o
    JOIN feature_flags.flags AS f USING (flag_id),
    feature_flags.read_value(o.value) AS stored
  ORDER BY f.feature_id, f.field_number, o.entity_id;

COMMENT ON FUNCTION feature_flags.kill(text) IS 'Stops a flag, by id or alias: everybody gets the compiled default. Returns the new state.';
COMMENT ON FUNCTION feature_flags.revive(text) IS 'Brings back the state and value from before the kill. Returns the new state.';
COMMENT ON FUNCTION feature_flags.set_value(text, text) IS 'Serves a value to all, read as the flag''s type says; a list as ''[1, 2]'' or ''{1,2}''. Returns the new state.';
COMMENT ON FUNCTION feature_flags.set_value(text, anyelement) IS 'Serves a value to all: true, 5, 0.5, ARRAY[1, 2]. Returns the new state.';
COMMENT ON FUNCTION feature_flags.reset(text) IS 'Forgets the stored value: everybody gets the compiled default. Overrides stay. Returns the new state.';
COMMENT ON FUNCTION feature_flags.set_override(text, text, text) IS 'Serves a value to one entity. Returns the override''s state.';
COMMENT ON FUNCTION feature_flags.set_override(text, text, anyelement) IS 'Serves a value to one entity. Returns the override''s state.';
COMMENT ON FUNCTION feature_flags.remove_override(text, text) IS 'Returns whether there was one.';
COMMENT ON VIEW feature_flags.flag_status IS 'All flags, values readable. "overrides" counts them.';
COMMENT ON VIEW feature_flags.override_status IS 'All overrides, values readable.';
