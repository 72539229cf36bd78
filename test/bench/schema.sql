-- What the two sides of each comparison write to.

CREATE EXTENSION durable_event;

CREATE TABLE item (id integer PRIMARY KEY, version integer NOT NULL DEFAULT 0, pad text)
	WITH (fillfactor = 60);
INSERT INTO item SELECT i, 0, repeat('x', 80) FROM generate_series(1, 100000) AS i;

-- the outbox that people write themselves
CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL);

-- the same that tells its reader
CREATE TABLE plain_notify (LIKE plain INCLUDING ALL);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NOTIFY plain_notify;
	RETURN NULL;
END;
$$;
CREATE TRIGGER tell AFTER INSERT ON plain_notify FOR EACH STATEMENT EXECUTE FUNCTION tell();

-- with as much in a row as an event has
CREATE TABLE plain_full (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	event_type text NOT NULL, key text, payload jsonb);

-- 2,000 documents of 10 kB, which are compressed when they are inserted, not here
CREATE TABLE document (id integer, payload jsonb);
ALTER TABLE document ALTER payload SET STORAGE EXTERNAL;
INSERT INTO document SELECT i, (
	SELECT jsonb_object_agg('field_' || j, md5(i || ' ' || j) || ' value of some text ' || j)
	FROM generate_series(1, 139) AS j)
FROM generate_series(1, 2000) AS i;

VACUUM ANALYZE;
