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
RESET durable_event.max_outbox_size;
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
