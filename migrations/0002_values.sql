-- Values are stored as serialized pbflags.v1.FlagValue messages. These functions turn them into JSON and
-- back, so that people can read and write them in SQL. No evaluation passes through here.
--
-- Errors of these functions have the SQLSTATE PF002.

CREATE FUNCTION feature_flags.encode_varint(number bigint) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  rest  bigint := number;
  bytes bytea  := '';
BEGIN
  WHILE rest NOT BETWEEN 0 AND 127 LOOP
    bytes := bytes || set_byte('\x00', 0, ((rest & 127) | 128)::integer);
    -- A logical shift: the mask clears the sign bits that >> brings in.
    rest := (rest >> 7) & 144115188075855871;
  END LOOP;
  RETURN bytes || set_byte('\x00', 0, rest::integer);
END $$;

CREATE FUNCTION feature_flags.reverse_bytes(bytes bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT string_agg(substr(bytes, i, 1), '' ORDER BY i DESC) FROM generate_series(1, length(bytes)) AS i
$$;

-- One element as it stands in a message, without its tag: a varint, eight bytes, or a length and UTF-8.
CREATE FUNCTION feature_flags.encode_element(element_type text, element jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  kind text := jsonb_typeof(element);
  given text := element #>> '{}';
  real double precision;
BEGIN
  CASE element_type
  WHEN 'BOOL' THEN
    IF kind IN ('boolean', 'string') AND lower(btrim(given)) IN ('true', 't', 'yes', 'on', '1', 'false', 'f', 'no', 'off', '0') THEN
      RETURN feature_flags.encode_varint(btrim(given)::boolean::integer);
    END IF;
    RAISE EXCEPTION 'expected true or false, got %', left(element::text, 100) USING ERRCODE = 'PF002';
  WHEN 'STRING' THEN
    IF kind = 'string' THEN
      RETURN feature_flags.encode_varint(octet_length(convert_to(given, 'UTF8'))) || convert_to(given, 'UTF8');
    END IF;
    RAISE EXCEPTION 'expected a text, got %', left(element::text, 100) USING ERRCODE = 'PF002';
  WHEN 'INT64' THEN
    IF (kind = 'number' AND given ~ '^-?\d+(\.0+)?$') OR (kind = 'string' AND btrim(given) ~ '^[+-]?\d{1,100}$') THEN
      IF given::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
        RETURN feature_flags.encode_varint(given::numeric::bigint);
      END IF;
    END IF;
    RAISE EXCEPTION 'expected a whole number from -9223372036854775808 to 9223372036854775807, got %', left(element::text, 100)
      USING ERRCODE = 'PF002';
  WHEN 'DOUBLE' THEN
    IF kind = 'number' OR (kind = 'string' AND btrim(given) ~* '^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)$') THEN
      BEGIN
        real := given::double precision;
        RETURN feature_flags.reverse_bytes(float8send(real));
      EXCEPTION WHEN numeric_value_out_of_range THEN
        NULL;
      END;
    END IF;
    RAISE EXCEPTION 'expected a number that a double can hold, got %', left(element::text, 100) USING ERRCODE = 'PF002';
  ELSE
    RAISE EXCEPTION 'unknown type %', coalesce(element_type, 'NULL') USING ERRCODE = 'PF002';
  END CASE;
END $$;

-- Names are those of the column flags.flag_type, numbers those of the cases of FlagValue.
CREATE FUNCTION feature_flags.value_field(flag_type text) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
  SELECT array_position(
    ARRAY['BOOL', 'STRING', 'INT64', 'DOUBLE', 'BOOL_LIST', 'STRING_LIST', 'INT64_LIST', 'DOUBLE_LIST'], flag_type)
$$;

-- The search path set here and in read_value() holds for the functions that they call, too.
CREATE FUNCTION feature_flags.encode_value(flag_type text, value jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  element_type text    := regexp_replace(flag_type, '_LIST$', '');
  field        integer := feature_flags.value_field(flag_type);
  -- Varint, length-delimited, or eight bytes.
  wire_type    integer := CASE flag_type WHEN 'BOOL' THEN 0 WHEN 'INT64' THEN 0 WHEN 'DOUBLE' THEN 1 ELSE 2 END;
  tag          bytea   := set_byte('\x00', 0, field * 8 + wire_type);
  list         bytea;
BEGIN
  IF field IS NULL THEN
    RAISE EXCEPTION 'unknown type %', coalesce(flag_type, 'NULL') USING ERRCODE = 'PF002';
  END IF;
  IF value IS NULL OR jsonb_typeof(value) = 'null' THEN
    RAISE EXCEPTION 'expected a value, got NULL' USING ERRCODE = 'PF002';
  END IF;
  IF element_type = flag_type THEN
    RETURN tag || feature_flags.encode_element(element_type, value);
  END IF;
  IF jsonb_typeof(value) <> 'array' THEN
    RAISE EXCEPTION 'expected a list, got %', left(value::text, 100) USING ERRCODE = 'PF002';
  END IF;
  -- Texts carry a tag each; the others are packed behind one.
  SELECT coalesce(string_agg(
      CASE element_type WHEN 'STRING' THEN '\x0a'::bytea ELSE ''::bytea END || feature_flags.encode_element(element_type, e.element),
      '' ORDER BY e.position), '')
    INTO list FROM jsonb_array_elements(value) WITH ORDINALITY AS e (element, position);
  IF element_type <> 'STRING' AND list <> '' THEN
    list := '\x0a'::bytea || feature_flags.encode_varint(length(list)) || list;
  END IF;
  RETURN tag || feature_flags.encode_varint(length(list)) || list;
END $$;

CREATE FUNCTION feature_flags.read_varint(bytes bytea, start integer, OUT number bigint, OUT next integer)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  byte integer;
BEGIN
  number := 0;
  FOR i IN 0..9 LOOP
    -- Fails past the end.
    byte := get_byte(bytes, start + i);
    number := number | ((byte & 127)::bigint << (7 * i));
    IF byte < 128 THEN
      next := start + i + 1;
      RETURN;
    END IF;
  END LOOP;
  RAISE EXCEPTION 'a varint of more than ten bytes' USING ERRCODE = 'PF002';
END $$;

-- Eight bytes, the least significant first, as an IEEE 754 number.
CREATE FUNCTION feature_flags.read_double(bytes bytea) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  bits     bigint := ('x' || encode(feature_flags.reverse_bytes(bytes), 'hex'))::bit(64)::bigint;
  exponent integer := (bits >> 52) & 2047;
  fraction bigint := bits & 4503599627370495;
  sign     double precision := CASE WHEN bits < 0 THEN -1 ELSE 1 END;
BEGIN
  IF exponent = 2047 THEN
    RETURN CASE WHEN fraction = 0 THEN sign * 'Infinity'::double precision ELSE 'NaN' END;
  ELSIF exponent = 0 THEN
    RETURN sign * fraction * power(2::double precision, -1074);
  END IF;
  RETURN sign * (fraction | 4503599627370496) * power(2::double precision, exponent - 1075);
END $$;

-- One field of a message: its number, and its content where the wire type is one that FlagValue uses.
CREATE FUNCTION feature_flags.read_field(
  bytes bytea, start integer, OUT field bigint, OUT wire_type integer, OUT number bigint, OUT content bytea, OUT next integer
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  size bigint;
BEGIN
  SELECT v.number >> 3, v.number & 7, v.next INTO field, wire_type, next FROM feature_flags.read_varint(bytes, start) AS v;
  IF wire_type = 0 THEN
    SELECT v.number, v.next INTO number, next FROM feature_flags.read_varint(bytes, next) AS v;
    RETURN;
  ELSIF wire_type = 1 THEN
    size := 8;
  ELSIF wire_type = 5 THEN
    size := 4;
  ELSIF wire_type = 2 THEN
    SELECT v.number, v.next INTO size, next FROM feature_flags.read_varint(bytes, next) AS v;
  END IF;
  IF field < 1 OR size IS NULL OR size NOT BETWEEN 0 AND length(bytes) - next THEN
    RAISE EXCEPTION 'not a protobuf message' USING ERRCODE = 'PF002';
  END IF;
  content := substr(bytes, next + 1, size::integer);
  next := next + size;
END $$;

-- The elements of a BoolList, StringList, Int64List or DoubleList, packed or not.
CREATE FUNCTION feature_flags.read_list(element_type text, bytes bytea) RETURNS jsonb[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  elements jsonb[] := '{}';
  part     record;
  at       integer := 0;
  packed   integer;
  number   bigint;
BEGIN
  WHILE at < length(bytes) LOOP
    part := feature_flags.read_field(bytes, at);
    at := part.next;
    IF part.field <> 1 THEN
      CONTINUE;
    ELSIF element_type = 'STRING' THEN
      IF part.wire_type = 2 THEN
        elements := elements || to_jsonb(convert_from(part.content, 'UTF8'));
      END IF;
    ELSIF element_type = 'DOUBLE' THEN
      IF part.wire_type IN (1, 2) THEN
        IF length(part.content) % 8 <> 0 THEN
          RAISE EXCEPTION 'not a list of doubles' USING ERRCODE = 'PF002';
        END IF;
        FOR i IN 0..length(part.content) / 8 - 1 LOOP
          elements := elements || to_jsonb(feature_flags.read_double(substr(part.content, 8 * i + 1, 8)));
        END LOOP;
      END IF;
    ELSIF part.wire_type = 0 THEN
      elements := elements || CASE element_type WHEN 'BOOL' THEN to_jsonb(part.number <> 0) ELSE to_jsonb(part.number) END;
    ELSIF part.wire_type = 2 THEN
      packed := 0;
      WHILE packed < length(part.content) LOOP
        SELECT v.number, v.next INTO number, packed FROM feature_flags.read_varint(part.content, packed) AS v;
        elements := elements || CASE element_type WHEN 'BOOL' THEN to_jsonb(number <> 0) ELSE to_jsonb(number) END;
      END LOOP;
    END IF;
  END LOOP;
  RETURN elements;
END $$;

-- Type and value of a stored value; both NULL where the bytes are none.
CREATE FUNCTION feature_flags.read_value(bytes bytea, OUT flag_type text, OUT value jsonb)
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  part record;
  at   integer := 0;
  list jsonb[];
BEGIN
  -- The last one counts, as everywhere in protobuf; lists of one type that follow each other add up.
  WHILE at < length(bytes) LOOP
    part := feature_flags.read_field(bytes, at);
    at := part.next;
    IF part.field = 1 AND part.wire_type = 0 THEN
      flag_type := 'BOOL';
      value := to_jsonb(part.number <> 0);
    ELSIF part.field = 2 AND part.wire_type = 2 THEN
      flag_type := 'STRING';
      value := to_jsonb(convert_from(part.content, 'UTF8'));
    ELSIF part.field = 3 AND part.wire_type = 0 THEN
      flag_type := 'INT64';
      value := to_jsonb(part.number);
    ELSIF part.field = 4 AND part.wire_type = 1 THEN
      flag_type := 'DOUBLE';
      value := to_jsonb(feature_flags.read_double(part.content));
    ELSIF part.field BETWEEN 5 AND 8 AND part.wire_type = 2 THEN
      IF feature_flags.value_field(flag_type) IS DISTINCT FROM part.field::integer THEN
        flag_type := (ARRAY['BOOL', 'STRING', 'INT64', 'DOUBLE'])[part.field - 4] || '_LIST';
        list := '{}';
      END IF;
      list := list || feature_flags.read_list(regexp_replace(flag_type, '_LIST$', ''), part.content);
      value := to_jsonb(list);
    END IF;
  END LOOP;
EXCEPTION WHEN OTHERS THEN
  flag_type := NULL;
  value := NULL;
END $$;

CREATE FUNCTION feature_flags.decode_value(bytes bytea) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$ SELECT v.value FROM feature_flags.read_value(bytes) AS v $$;

COMMENT ON FUNCTION feature_flags.encode_value(text, jsonb) IS
  'JSON to the bytes of the value columns: encode_value(''INT64_LIST'', ''[1, 2]''). NaN is refused.';
COMMENT ON FUNCTION feature_flags.decode_value(bytea) IS
  'Bytes of a value column as JSON; NULL where they cannot be read.';
