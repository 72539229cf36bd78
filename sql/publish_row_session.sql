-- publish_row(): a row has one key and one payload, whatever the session's settings
CREATE SCHEMA other;
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TYPE pair AS (at timestamptz, f float8);
CREATE DOMAIN moment AS timestamptz;
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TABLE "Other" (a int);
-- a cast to json: row_to_json calls it, and it depends on the session
CREATE TYPE boxed AS ENUM ('b');
CREATE FUNCTION boxed_json(boxed) RETURNS json STABLE LANGUAGE sql
	AS $$SELECT to_json(interval '1 day 2 hours'::text || ' ' || timestamptz '2026-02-01 12:00+00'::text)$$;
CREATE CAST (boxed AS json) WITH FUNCTION boxed_json(boxed);
CREATE TABLE sample (type text, value text);
INSERT INTO sample VALUES
	('date', '2026-02-01'), ('timestamp', '2026-02-01 12:00:00.5'), ('timestamptz', '2026-02-01 12:00+00'),
	('time', '12:00'), ('timetz', '12:00+03'), ('interval', '1 day 02:00'), ('moment', '2026-02-01 12:00+00'),
	('float4', '0.1'), ('float8', '0.30000000000000004'), ('point', '(0.1,0.30000000000000004)'),
	('circle', '<(0.1,0.2),0.30000000000000004>'), ('bytea', '\x00ff41'), ('money', '12.50'),
	('regclass', 'public."Other"'), ('regtype', 'public.pair'), ('regproc', 'public.boxed_json'), ('regrole', 'pg_monitor'),
	('regnamespace', 'other'), ('mood', 'glad'), ('pair', '("2026-02-01 12:00+00",0.30000000000000004)'),
	('daterange', '[2026-02-01,2026-03-01)'), ('tstzrange', '[2026-02-01 12:00+00,)'),
	('tstzmultirange', '{[2026-02-01 12:00+00,)}'), ('floatrange', '[0.30000000000000004,)'),
	('date[]', '{2026-02-01}'), ('pair[]', '{"(\"2026-02-01 12:00+00\",0.1)"}'), ('bytea[]', '{"\\x00ff41"}'),
	('int', '1'), ('numeric', '1.50'), ('text', 'a'), ('bool', 't'), ('uuid', '018f1d1e-1f4b-7c3a-9d4e-0123456789ab'),
	('jsonb', '{"a": 1}'), ('inet', '10.0.0.1'), ('boxed', 'b'), ('tsvector', 'a b'), ('bit(3)', '101');
CREATE FUNCTION update_strangely() RETURNS text LANGUAGE plpgsql
	SET DateStyle = 'German' SET TimeZone = 'America/St_Johns' SET IntervalStyle = 'iso_8601'
	SET extra_float_digits = -3 SET bytea_output = 'escape' SET search_path = other, public
	SET quote_all_identifiers = on SET lc_monetary = 'C.utf8' SET xmlbinary = 'hex' SET array_nulls = off AS $$
BEGIN
	UPDATE one SET v = 2;
	-- what the session has set is as it was
	RETURN concat_ws(' ', current_setting('DateStyle'), current_setting('TimeZone'), current_setting('IntervalStyle'),
		current_setting('extra_float_digits'), current_setting('bytea_output'), current_setting('search_path'),
		current_setting('quote_all_identifiers'), current_setting('lc_monetary'));
END $$;
-- a table with a key of each type, written by an ordinary session and by a strange one
CREATE FUNCTION compare(type text, value text, OUT key text, OUT payload text, OUT problem text) LANGUAGE plpgsql AS $$
DECLARE
	wanted text := 'one_' || md5(type);
	first record;
	second record;
	settings text;
BEGIN
	EXECUTE format('CREATE TABLE one (k %s NOT NULL, v int)', type);
	EXECUTE format('CREATE TRIGGER publish AFTER INSERT OR UPDATE ON one FOR EACH ROW '
		'EXECUTE FUNCTION durable_event.publish_row(%L, ''k'')', wanted);
	EXECUTE format('INSERT INTO one VALUES (%L, 1)', value);
	settings := update_strangely();
	SELECT * INTO first FROM durable_event.pending_events() AS e WHERE e.event_type = wanted;
	SELECT * INTO second FROM durable_event.pending_events() AS e WHERE e.event_type = wanted OFFSET 1;
	key := first.key;
	payload := first.payload -> 'new' -> 'k';
	problem := concat_ws(', ', 'key ' || nullif(second.key, first.key),
		nullif(second.payload ->> 'op', 'updated'),
		'payload ' || nullif((second.payload -> 'old')::text, (first.payload -> 'new')::text),
		'settings ' || nullif(settings, 'German, DMY America/St_Johns iso_8601 -3 escape other, public on C.utf8'));
	DROP TABLE one;
END $$;
SET TimeZone = 'UTC';
SELECT type, c.* FROM sample, compare(type, value) AS c;
DO $$
DECLARE
	c record;
BEGIN
	SELECT * INTO c FROM compare('xml', '<a/>');
	IF c IS DISTINCT FROM ROW('<a/>'::text, '"<a/>"'::text, ''::text) THEN
		RAISE 'xml: %', c;
	END IF;
EXCEPTION
	WHEN feature_not_supported THEN NULL;		-- a server without libxml
END $$;
-- published columns decide as well, the key's settings do not
CREATE TABLE one (k int, v int, at timestamptz, hidden interval);
CREATE TRIGGER publish AFTER INSERT OR UPDATE ON one
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('one', 'k', 'columns=at,v');
BEGIN;
INSERT INTO one VALUES (1, 1, '2026-02-01 12:00+00', '1 day');
SELECT update_strangely();
-- an error inside leaves nothing changed
SET LOCAL TimeZone = 'Asia/Tokyo';
SAVEPOINT a;
INSERT INTO one VALUES (NULL, 1, '2026-02-01 12:00+00', '1 day');
ROLLBACK TO a;
SHOW TimeZone;
SELECT key, payload FROM durable_event.pending_events();
ROLLBACK;
DROP TABLE one, sample, "Other";
DROP FUNCTION update_strangely, compare;
DROP CAST (boxed AS json);
DROP FUNCTION boxed_json;
DROP TYPE mood, pair, floatrange, boxed;
DROP DOMAIN moment;
DROP SCHEMA other;
RESET TimeZone;
-- functions behind a cast to json: dates are read in one order; and they find what they call, though there is a name beside
CREATE TYPE session_enum AS ENUM ('a', 'b');
CREATE FUNCTION session_helper(session_enum) RETURNS json LANGUAGE sql
	AS $$ SELECT json_build_object('d', '01/02/2026'::date, 'z', to_char(timestamptz '2026-01-01 00:00+00', 'TZ')) $$;
CREATE FUNCTION session_enum_json(session_enum) RETURNS json LANGUAGE sql AS $$ SELECT session_helper($1) $$;
CREATE CAST (session_enum AS json) WITH FUNCTION session_enum_json(session_enum);
CREATE TABLE session_cast (id int PRIMARY KEY, e session_enum, r regclass);
CREATE TRIGGER publish AFTER INSERT OR UPDATE ON session_cast
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('session_cast', 'id');
BEGIN;
SET LOCAL datestyle = 'ISO, DMY';
INSERT INTO session_cast VALUES (1, 'a', 'pg_class');
SET LOCAL datestyle = 'ISO, MDY';
SET LOCAL timezone = 'GMT';
UPDATE session_cast SET id = 1;
SELECT payload FROM durable_event.pending_events();
ROLLBACK;
DROP TABLE session_cast;
DROP CAST (session_enum AS json);
DROP FUNCTION session_enum_json, session_helper;
DROP TYPE session_enum;
