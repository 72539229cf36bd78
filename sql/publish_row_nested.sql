-- publish_row(): what triggers and functions change in the table of a statement in progress comes behind it
CREATE TABLE nested (id int PRIMARY KEY, v int);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON nested
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('nested', 'id');
CREATE TABLE nested_waiting (id int PRIMARY KEY DEFERRABLE, v int);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON nested_waiting
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('nested', 'id');
CREATE VIEW told AS SELECT key, payload ->> 'op' AS op, payload #>> '{new,v}' AS v FROM durable_event.pending_events();
-- what a reader has who keeps the last event of each key, and what differs from the table
CREATE VIEW replayed AS
	SELECT key::int AS id, (payload -> 'new' ->> 'v')::int AS v
	FROM (SELECT DISTINCT ON (key) key, payload
		  FROM (SELECT key, payload, row_number() OVER () AS n FROM durable_event.pending_events()) AS e ORDER BY key, n DESC) AS last
	WHERE payload ->> 'op' <> 'deleted';
CREATE VIEW rows AS TABLE nested UNION ALL TABLE nested_waiting;
CREATE VIEW differing AS (TABLE replayed EXCEPT TABLE rows) UNION ALL (TABLE rows EXCEPT TABLE replayed);
-- executes its argument, with the row as parameters, at a trigger depth of at most the second one
CREATE FUNCTION execute_command() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF pg_trigger_depth() <= coalesce(TG_ARGV[1], '1')::int THEN
		IF TG_OP = 'DELETE' THEN EXECUTE TG_ARGV[0] USING OLD.id, OLD.v; RETURN OLD; END IF;
		EXECUTE TG_ARGV[0] USING NEW.id, NEW.v;
	END IF;
	RETURN NEW;
END;
$$;
SET client_min_messages = warning;

-- by a trigger that fires before the one that publishes, and by one that fires after
BEGIN;
CREATE TRIGGER a_fix AFTER INSERT ON nested FOR EACH ROW
	EXECUTE FUNCTION execute_command('UPDATE nested SET v = v + 100 WHERE id = $1');
CREATE TRIGGER z_fix AFTER INSERT ON nested_waiting FOR EACH ROW
	EXECUTE FUNCTION execute_command('UPDATE nested_waiting SET v = v + 100 WHERE id = $1');
INSERT INTO nested VALUES (1, 1), (2, 2);
INSERT INTO nested_waiting VALUES (11, 1), (12, 2);
TABLE told;
TABLE differing;
ROLLBACK;
-- rows of the same statement that come later
BEGIN;
INSERT INTO nested VALUES (1, 1), (2, 2), (3, 3);
INSERT INTO nested_waiting VALUES (11, 1), (12, 2), (13, 3);
CREATE TRIGGER z_other AFTER UPDATE ON nested FOR EACH ROW
	EXECUTE FUNCTION execute_command('UPDATE nested SET v = v + 100 WHERE id = $1 + 1');
CREATE TRIGGER z_other AFTER UPDATE ON nested_waiting FOR EACH ROW
	EXECUTE FUNCTION execute_command('UPDATE nested_waiting SET v = v + 100 WHERE id = $1 + 1');
UPDATE nested SET v = v + 10;
UPDATE nested_waiting SET v = v + 10;
SELECT * FROM told OFFSET 6;
TABLE differing;
ROLLBACK;
-- three statements within each other
BEGIN;
INSERT INTO nested VALUES (1, 1), (2, 2), (3, 3), (4, 4);
CREATE TRIGGER z_others AFTER UPDATE ON nested FOR EACH ROW
	EXECUTE FUNCTION execute_command('UPDATE nested SET v = v + 100 * $2 WHERE id > $1', '2');
UPDATE nested SET v = v + 10;
SELECT count(*) FROM told;
TABLE differing;
ROLLBACK;
-- deletions, and a key that comes back
BEGIN;
CREATE TRIGGER a_delete AFTER INSERT ON nested FOR EACH ROW WHEN (NEW.v = 1)
	EXECUTE FUNCTION execute_command('DELETE FROM nested WHERE id = $1');
CREATE TRIGGER a_again AFTER DELETE ON nested FOR EACH ROW WHEN (OLD.v = 2)
	EXECUTE FUNCTION execute_command('INSERT INTO nested VALUES ($1, 20)');
INSERT INTO nested VALUES (1, 1), (2, 2);
DELETE FROM nested;
TABLE told;
TABLE differing;
ROLLBACK;
-- functions of the statement itself: RETURNING, WITH, and a trigger that fires before
CREATE FUNCTION touch(int) RETURNS int LANGUAGE sql AS 'UPDATE nested SET v = v + 1000 WHERE id = $1 RETURNING v';
BEGIN;
INSERT INTO nested VALUES (1, 1) RETURNING touch(id);
WITH u AS (UPDATE nested SET v = 2 RETURNING id) SELECT touch(id) FROM u;
TABLE told;
TABLE differing;
INSERT INTO nested VALUES (2, 2), (3, 3);
CREATE TRIGGER b_before BEFORE UPDATE ON nested FOR EACH ROW WHEN (NEW.id = 3)
	EXECUTE FUNCTION execute_command('UPDATE nested SET v = v + 100 WHERE id = 2', '1');
UPDATE nested SET v = v + 10 WHERE id > 1;
SELECT * FROM told OFFSET 4;
TABLE differing;
ROLLBACK;
-- COPY
BEGIN;
CREATE TRIGGER a_fix AFTER INSERT ON nested FOR EACH ROW
	EXECUTE FUNCTION execute_command('UPDATE nested SET v = v + 100 WHERE id = $1');
COPY nested FROM stdin;
1	1
2	2
\.
TABLE told;
TABLE differing;
ROLLBACK;
-- another table's rows wait for nothing, and publish_event() stands where it is called
BEGIN;
CREATE TRIGGER a_other AFTER INSERT ON nested FOR EACH ROW
	EXECUTE FUNCTION execute_command('INSERT INTO nested_waiting VALUES ($1 + 10, $2)');
CREATE TRIGGER a_say AFTER INSERT ON nested FOR EACH ROW
	EXECUTE FUNCTION execute_command('SELECT durable_event.publish_event(''said'', $1::text, ''{"op": "said"}'')');
INSERT INTO nested VALUES (1, 1), (2, 2);
TABLE told;
ROLLBACK;
-- what a caught error takes back, waiting or not, is not told; the rest is
BEGIN;
CREATE FUNCTION fix_or_fail(n int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	UPDATE nested SET v = v + 100 WHERE id = n;
	BEGIN
		UPDATE nested SET v = v + 1000 WHERE id = n;
		IF n = 2 THEN RAISE EXCEPTION 'no'; END IF;
	EXCEPTION WHEN raise_exception THEN
		UPDATE nested SET v = v + 10000 WHERE id = n;
	END;
	RETURN n;
END;
$$;
INSERT INTO nested VALUES (1, 1), (2, 2), (3, 3) RETURNING fix_or_fail(id);
SAVEPOINT a;
INSERT INTO nested VALUES (4, 4) RETURNING fix_or_fail(id);
INSERT INTO nested VALUES (5, 5) RETURNING fix_or_fail(id) / 0;
ROLLBACK TO a;
INSERT INTO nested VALUES (5, 5) RETURNING fix_or_fail(id);
TABLE told;
TABLE differing;
-- as it is committed
COMMIT;
SELECT key, payload ->> 'op' AS op, payload #>> '{new,v}' AS v FROM durable_event.outbox WHERE event_type = 'nested' ORDER BY id;
DELETE FROM nested;

-- partitions of partitions, whose unique indexes are not the whole table's; and tables that inherit
CREATE TABLE region (id int NOT NULL, region text NOT NULL, v int) PARTITION BY LIST (region);
CREATE TABLE region_a PARTITION OF region FOR VALUES IN ('a') PARTITION BY RANGE (id);
CREATE TABLE region_b PARTITION OF region FOR VALUES IN ('b') PARTITION BY RANGE (id);
CREATE TABLE region_a1 PARTITION OF region_a DEFAULT;
CREATE TABLE region_b1 PARTITION OF region_b DEFAULT;
ALTER TABLE region_a ADD UNIQUE (id);
ALTER TABLE region_b ADD UNIQUE (id);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON region
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('region', 'id');
CREATE TABLE parent (id int PRIMARY KEY, v int);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON parent
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('parent', 'id');
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON child
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('parent', 'id');
BEGIN;
INSERT INTO region VALUES (1, 'a', 1), (2, 'b', 2);
UPDATE region SET id = 3 - id;
TABLE told;
ROLLBACK;
BEGIN;
INSERT INTO parent VALUES (1, 1);
INSERT INTO child VALUES (2, 2);
UPDATE parent SET id = 3 - id;
TABLE told;
ROLLBACK;

DROP VIEW differing, rows, replayed, told;
DROP TABLE nested, nested_waiting, region, child, parent;
DROP FUNCTION execute_command, touch, fix_or_fail;
