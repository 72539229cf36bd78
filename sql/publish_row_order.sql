-- publish_row(): replayed by key, the events of a statement that moves keys give the table
CREATE TABLE moved (id int PRIMARY KEY DEFERRABLE, v int);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON moved
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('moved', 'id');
-- what a reader has who keeps the last event of each key
CREATE VIEW replayed AS
	SELECT key::int AS id, (payload -> 'new' ->> 'v')::int AS v
	FROM (SELECT DISTINCT ON (key) key, payload
		  FROM (SELECT key, payload, row_number() OVER () AS n FROM durable_event.pending_events()) AS e ORDER BY key, n DESC) AS last
	WHERE payload ->> 'op' <> 'deleted';
CREATE VIEW told AS SELECT key, payload ->> 'op' AS op, payload #>> '{new,v}' AS v FROM durable_event.pending_events();
CREATE VIEW differing AS (TABLE replayed EXCEPT TABLE moved) UNION ALL (TABLE moved EXCEPT TABLE replayed);
SET client_min_messages = warning;
-- each key onto the next
BEGIN;
INSERT INTO moved SELECT i, i FROM generate_series(1, 3) AS i;
UPDATE moved SET id = id + 1;
TABLE told;
TABLE differing;
-- and back, after an event in between
SELECT durable_event.publish_event('between', 'b', '{"new": {"v": 0}, "op": "between"}') IS NOT NULL AS published;
UPDATE moved SET id = id - 1, v = v * 10;
SELECT * FROM told OFFSET 9;
ROLLBACK;
-- a swap; a statement of one row; what is updated in place comes with the creations
BEGIN;
INSERT INTO moved VALUES (1, 1), (2, 2), (3, 3);
UPDATE moved SET id = CASE id WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE id END, v = v + 10;
UPDATE moved SET id = 9 WHERE id = 1;
UPDATE moved SET id = 1 WHERE id = 9;
SELECT * FROM told OFFSET 3;
TABLE differing;
ROLLBACK;
-- MERGE that deletes, moves and inserts
BEGIN;
INSERT INTO moved VALUES (1, 1), (2, 2), (3, 3);
MERGE INTO moved USING (VALUES (1, 2), (2, NULL), (3, 4), (7, 1)) AS s(id, new) ON moved.id = s.id
	WHEN MATCHED AND new IS NULL THEN DELETE
	WHEN MATCHED THEN UPDATE SET id = new, v = v + 10
	WHEN NOT MATCHED THEN INSERT VALUES (new, 70);
SELECT * FROM told OFFSET 3;
TABLE differing;
ROLLBACK;
-- a deletion by one part of a statement, an insertion by the other
BEGIN;
INSERT INTO moved VALUES (1, 1);
WITH d AS (DELETE FROM moved RETURNING id) INSERT INTO moved SELECT id, 2 FROM d;
WITH i AS (INSERT INTO moved SELECT id, 3 FROM moved RETURNING id) DELETE FROM moved WHERE id = 1;
SELECT * FROM told OFFSET 1;
TABLE differing;
ROLLBACK;
-- subtransactions
BEGIN;
INSERT INTO moved VALUES (1, 1), (2, 2);
SAVEPOINT a;
UPDATE moved SET id = id + 1;
SAVEPOINT b;
UPDATE moved SET id = id + 1;
ROLLBACK TO b;
UPDATE moved SET id = id + 10;
RELEASE a;
SELECT * FROM told OFFSET 2;
TABLE differing;
ROLLBACK;
-- deferred triggers: statements stay apart, though all fire at once
DROP TRIGGER publish ON moved;
CREATE CONSTRAINT TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON moved DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('moved', 'id');
BEGIN;
INSERT INTO moved VALUES (1, 1), (2, 2);
UPDATE moved SET id = id + 1;
UPDATE moved SET id = id + 1;
DELETE FROM moved WHERE id = 4;
SELECT count(*) FROM durable_event.pending_events();
SET CONSTRAINTS ALL IMMEDIATE;
TABLE told;
TABLE differing;
-- what follows comes after what SET CONSTRAINTS has fired, and is undone by itself
SET CONSTRAINTS ALL DEFERRED;
UPDATE moved SET id = id + 1;
SET CONSTRAINTS ALL IMMEDIATE;
SAVEPOINT a;
SELECT durable_event.publish_event('moved', '99', '{"op": "last"}') IS NOT NULL AS published;
ROLLBACK TO a;
SELECT * FROM told OFFSET 9;
ROLLBACK;
-- the same at COMMIT
INSERT INTO moved VALUES (1, 1), (2, 2), (3, 3);
BEGIN;
UPDATE moved SET id = id + 1;
UPDATE moved SET id = id + 1;
COMMIT;
SELECT key, payload ->> 'op' AS op FROM durable_event.outbox WHERE event_type = 'moved' ORDER BY id OFFSET 3;
DELETE FROM moved;
DROP TRIGGER publish ON moved;
-- a trigger that publishes, and one that changes another table, between the rows
CREATE TABLE other_moved (id int, v int);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON other_moved
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('other', 'id');
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON moved
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('moved', 'id');
CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO other_moved VALUES (new.id, new.v);
	UPDATE other_moved SET id = id + 1;
	BEGIN
		PERFORM durable_event.publish_event('undone', 'u', '{"op": "undone"}');
		UPDATE other_moved SET id = id + 1;
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		PERFORM durable_event.publish_event('also', 'a' || new.id, '{"op": "also"}');
	END;
	RETURN NULL;
END $$;
CREATE TRIGGER then_also AFTER UPDATE ON moved FOR EACH ROW EXECUTE FUNCTION also();
INSERT INTO moved VALUES (1, 1), (2, 2);
BEGIN;
UPDATE moved SET id = id + 1;
SELECT event_type, key, payload ->> 'op' AS op FROM durable_event.pending_events();
SELECT event_type, last.key, last.op FROM (SELECT DISTINCT ON (event_type, key) event_type, key, op
	FROM (SELECT event_type, key, payload ->> 'op' AS op, row_number() OVER () AS n FROM durable_event.pending_events()) AS e
	ORDER BY event_type, key, n DESC) AS last WHERE event_type <> 'also' ORDER BY event_type, key;
TABLE moved ORDER BY id;
TABLE other_moved ORDER BY id;
ROLLBACK;
DROP TABLE other_moved;
DROP TRIGGER then_also ON moved;
DROP FUNCTION also;
DELETE FROM moved;
-- a key that only one row can have at any moment: nothing waits
CREATE TABLE strict (id int PRIMARY KEY, v int, part text);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON strict
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('strict', 'part,id');
BEGIN;
INSERT INTO strict VALUES (1, 1, 'a'), (5, 5, 'b');
UPDATE strict SET id = id + 1;
TABLE told;
ROLLBACK;
DROP TABLE strict;
-- COPY, and more than is kept in memory
SET work_mem = '64kB';
BEGIN;
COPY moved FROM stdin;
1	1
2	2
\.
INSERT INTO moved SELECT i, i FROM generate_series(3, 3000) AS i;
UPDATE moved SET id = id + 1;
SAVEPOINT a;
UPDATE moved SET id = 10000 - id;
ROLLBACK TO a;
UPDATE moved SET id = id + 1 WHERE id > 1000;
DELETE FROM moved WHERE id < 10;
TABLE differing;
SELECT count(*) FROM replayed;
SELECT count(*) FROM durable_event.pending_events();
ROLLBACK;
RESET work_mem;
-- anything at random
CREATE FUNCTION statement(n int) RETURNS text LANGUAGE sql AS $$
	SELECT CASE n
		WHEN 0 THEN 'INSERT INTO moved SELECT i, random() * 1000 FROM generate_series(1, 8) AS i WHERE i NOT IN (SELECT id FROM moved) AND random() < 0.5'
		WHEN 1 THEN 'DELETE FROM moved WHERE random() < 0.3'
		WHEN 2 THEN 'UPDATE moved SET id = id + 1'
		WHEN 3 THEN 'UPDATE moved SET id = id - 1'
		WHEN 4 THEN 'UPDATE moved SET id = 5 - id, v = v + 1'
		WHEN 5 THEN 'UPDATE moved SET v = v + 1 WHERE random() < 0.5'
		WHEN 6 THEN 'UPDATE moved SET id = p.new FROM (SELECT a.id, b.id AS new FROM (SELECT id, row_number() OVER (ORDER BY random()) AS n FROM moved) AS a
			JOIN (SELECT id, row_number() OVER (ORDER BY id) AS n FROM moved) AS b USING (n)) AS p WHERE p.id = moved.id'
		WHEN 7 THEN 'MERGE INTO moved USING (SELECT i FROM generate_series(1, 8) AS i ORDER BY random()) AS s ON moved.id = s.i
			WHEN MATCHED AND i % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET id = i + 1, v = 7
			WHEN NOT MATCHED AND i % 2 = 1 AND NOT EXISTS (SELECT FROM moved WHERE id = i + 1 AND (i + 1) % 2 = 1) THEN INSERT VALUES (i + 20, 8)'
		WHEN 8 THEN 'WITH d AS (DELETE FROM moved WHERE id % 2 = 0 RETURNING id, v) INSERT INTO moved SELECT id, v + 1 FROM d'
		WHEN 9 THEN 'WITH u AS (UPDATE moved SET id = id + 100 WHERE id BETWEEN 1 AND 3) INSERT INTO moved SELECT id, 9 FROM moved WHERE id BETWEEN 1 AND 3'
	END
$$;
CREATE FUNCTION at_random(rounds int, deferred boolean, OUT statements int, OUT undone int, OUT wrong int) LANGUAGE plpgsql AS $$
DECLARE
	chosen text;
BEGIN
	statements := 0;
	undone := 0;
	wrong := 0;
	FOR i IN 1..rounds LOOP
		chosen := statement(floor(random() * 10)::int);
		BEGIN
			EXECUTE chosen;
			statements := statements + 1;
			IF random() < 0.1 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero OR unique_violation THEN
			undone := undone + 1;
		END;
		IF random() < 0.3 THEN
			IF deferred THEN
				SET CONSTRAINTS publish IMMEDIATE;
			END IF;
			IF EXISTS (TABLE differing) THEN
				wrong := wrong + 1;
				RAISE WARNING 'after %', chosen;
				RETURN;
			END IF;
			IF deferred THEN
				SET CONSTRAINTS publish DEFERRED;
			END IF;
		END IF;
	END LOOP;
END $$;
SELECT setseed(0.5) IS NOT NULL AS seeded;
BEGIN;
SELECT statements > 100 AS statements, undone > 10 AS undone, wrong FROM at_random(300, false);
ROLLBACK;
-- the triggers deferred as well
DROP TRIGGER publish ON moved;
CREATE CONSTRAINT TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON moved DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('moved', 'id');
BEGIN;
SELECT statements > 100 AS statements, undone > 10 AS undone, wrong FROM at_random(300, true);
ROLLBACK;
DROP VIEW differing, replayed, told;
DROP FUNCTION at_random, statement;
DROP TABLE moved;
