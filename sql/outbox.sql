-- the outbox is written by publish_event() only
INSERT INTO durable_event.outbox_0 (id, event_id, created_at, event_type) VALUES (1, gen_random_uuid(), now(), 'x');
UPDATE durable_event.outbox_0 SET id = 1;
DELETE FROM durable_event.outbox_0;
TRUNCATE durable_event.outbox_0;
-- what comes by replication is left out without an error
SET session_replication_role = replica;
INSERT INTO durable_event.outbox_7 (id, event_id, created_at, event_type) VALUES (1, gen_random_uuid(), now(), 'x');
RESET session_replication_role;
SELECT count(*) FROM durable_event.outbox_7;
-- a publication for all tables is reported
CREATE PUBLICATION regress_all FOR ALL TABLES;
SELECT status, detail FROM durable_event.check() WHERE check_name = 'publications';
DROP PUBLICATION regress_all;
SELECT status FROM durable_event.check() WHERE check_name = 'publications';
-- more columns of a segment, also dropped ones, disturb nobody
CREATE FUNCTION pg_temp.each_segment(command text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 0 .. 7 LOOP
		EXECUTE format(command, i);
	END LOOP;
END
$$;
SELECT pg_temp.each_segment('ALTER TABLE durable_event.outbox_%s ADD COLUMN note text, ADD COLUMN more int DEFAULT 7');
SELECT durable_event.publish_event('columns', 'added', '{}') IS NOT NULL AS published;
SELECT count(durable_event.publish_event('columns', i::text, '{}')) FROM generate_series(1, 3) AS i;
SELECT pg_temp.each_segment('ALTER TABLE durable_event.outbox_%s DROP COLUMN note, DROP COLUMN more');
SELECT durable_event.publish_event('columns', 'dropped', '{}') IS NOT NULL AS published;
SELECT key, payload FROM durable_event.outbox WHERE event_type = 'columns' ORDER BY id;
-- nor do more indexes: all get their entries
SELECT pg_temp.each_segment('CREATE INDEX regress_more_%s ON durable_event.outbox_%1$s (length(key)) WHERE content_type IS NULL');
SELECT count(durable_event.publish_event('indexed', repeat('k', i), to_jsonb(repeat('x', 50 * i)))) FROM generate_series(1, 100) AS i;
SET enable_seqscan = off;
SELECT length(payload) FROM (SELECT * FROM durable_event.outbox_0 WHERE content_type IS NULL AND length(key) = 42
	UNION ALL SELECT * FROM durable_event.outbox_1 WHERE content_type IS NULL AND length(key) = 42) AS segments
WHERE event_type = 'indexed';
SELECT max(id) AS last_id FROM durable_event.outbox \gset
SELECT count(*) FROM durable_event.outbox WHERE id BETWEEN :last_id - 99 AND :last_id;
RESET enable_seqscan;
SELECT pg_temp.each_segment('DROP INDEX durable_event.regress_more_%s');
-- events of a transaction that drops the extension cannot be stored
CREATE DATABASE regress_de_drop;
\c regress_de_drop
CREATE EXTENSION durable_event;
BEGIN;
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
DROP EXTENSION durable_event;
COMMIT;
-- this one is not served: it warns once in a session
\c regress_de_drop
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
-- dropped and created again: empty, and ids do not begin anew
SELECT max(id) AS last_id FROM durable_event.outbox \gset
DROP EXTENSION durable_event;
CREATE EXTENSION durable_event;
SELECT count(*) FROM durable_event.outbox;
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
SELECT min(id) > :last_id AS ids_go_on FROM durable_event.outbox;
\c contrib_regression
DROP DATABASE regress_de_drop;
-- the limit of its size
SELECT count(durable_event.publish_event('filling', i::text, to_jsonb(repeat(i::text, 200)))) FROM generate_series(1, 3000) AS i;
SET durable_event.max_outbox_size = '1MB';
\set VERBOSITY terse
SELECT durable_event.publish_event('t', 'k', '{}');
\set VERBOSITY default
-- looked at again within a transaction, which counts with what it has pending
SET durable_event.max_outbox_size = '20MB';
BEGIN;
SELECT count(durable_event.publish_event('filling', 'k', to_jsonb(repeat('x', 1000)))) FROM generate_series(1, 5000) AS i;
SAVEPOINT s;
\set VERBOSITY terse
SELECT count(durable_event.publish_event('filling', 'k', to_jsonb(repeat('x', 1000)))) FROM generate_series(1, 20000) AS i;
\set VERBOSITY default
ROLLBACK TO s;
SELECT durable_event.publish_event('filling', 'k', '{}') IS NOT NULL AS published;
ROLLBACK;
RESET durable_event.max_outbox_size;
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
-- one row that jsonb refuses does not hide the others
CREATE TABLE any_json (id int PRIMARY KEY, v json);
CREATE TRIGGER publish AFTER INSERT ON any_json FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('any_json', 'id');
BEGIN;
INSERT INTO any_json VALUES (1, '{"a":"\u0000"}'), (2, '"\ud83d"'), (3, '1e200000'), (4, '{"b": 1, "b":2}');
SELECT key, payload FROM durable_event.pending_events();
COMMIT;
SELECT key, payload FROM durable_event.outbox WHERE event_type = 'any_json' ORDER BY id;
SELECT payload -> 'new' -> 'v' ->> 'b' FROM durable_event.outbox WHERE event_type = 'any_json' AND key = '4';
DROP TABLE any_json;
