-- only what belongs to the extension is taken for its own
CREATE ROLE regress_de_owner;
CREATE DATABASE regress_de_trust OWNER regress_de_owner;
\c regress_de_trust
SET client_min_messages = error;
-- a schema of that name may have been prepared by anybody
SET ROLE regress_de_owner;
CREATE SCHEMA durable_event;
RESET ROLE;
-- where in the script it was is told since 18
\set SHOW_CONTEXT never
CREATE EXTENSION durable_event;
\set SHOW_CONTEXT errors
DROP SCHEMA durable_event;
CREATE EXTENSION durable_event SCHEMA public;
CREATE EXTENSION durable_event;
-- the schema goes with the extension, and can be made again
DROP EXTENSION durable_event;
SELECT count(*) FROM pg_namespace WHERE nspname = 'durable_event';
CREATE EXTENSION durable_event;
SELECT pg_describe_object(classid, objid, objsubid) AS member FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid = 'pg_namespace'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'durable_event');
-- every name in a stored expression is the server's own
SELECT DISTINCT refclassid::regclass, refobjid FROM pg_depend AS d
	JOIN pg_constraint AS c ON classid = 'pg_constraint'::regclass AND objid = c.oid AND contype = 'c'
	WHERE connamespace = 'durable_event'::regnamespace AND refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND refobjid >= 16384;
-- renamed, it says so, also with another schema in its place
ALTER SCHEMA durable_event RENAME TO elsewhere;
SELECT elsewhere.publish_event('t', 'k', '{}') IS NOT NULL AS published;
SELECT check_name, status, detail, hint FROM elsewhere.check() WHERE check_name = 'extension';
SET ROLE regress_de_owner;
CREATE SCHEMA durable_event;
CREATE TABLE durable_event.outbox_0 (id bigint NOT NULL, event_id uuid NOT NULL, created_at timestamptz NOT NULL, event_type bytea NOT NULL,
	key bytea, content_type bytea, headers bytea, payload bytea);
CREATE INDEX outbox_0_id_idx ON durable_event.outbox_0 (id);
RESET ROLE;
SELECT elsewhere.publish_event('t', 'k', '{}') IS NOT NULL AS published;
SELECT elsewhere.pause_relay();
SELECT count(*) FROM durable_event.outbox_0;
DROP SCHEMA durable_event CASCADE;
ALTER SCHEMA elsewhere RENAME TO durable_event;
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
SELECT status FROM durable_event.check() WHERE check_name = 'extension';
-- tables that were given away, taken out or renamed are not its own any more
ALTER TABLE durable_event.outbox_0 OWNER TO regress_de_owner;
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
ALTER TABLE durable_event.outbox_0 OWNER TO CURRENT_USER;
ALTER EXTENSION durable_event DROP TABLE durable_event.relay_state;
SELECT durable_event.pause_relay();
ALTER EXTENSION durable_event ADD TABLE durable_event.relay_state;
SELECT durable_event.pause_relay();
ALTER SCHEMA durable_event OWNER TO regress_de_owner;
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
ALTER SCHEMA durable_event OWNER TO CURRENT_USER;
-- further columns and indexes do no harm, missing ones do
ALTER TABLE durable_event.outbox_0 ADD COLUMN note text;
SELECT durable_event.publish_event('t', 'note', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('t', i::text, '{}') IS NOT NULL AS published FROM generate_series(1, 2) AS i;
ALTER TABLE durable_event.outbox_0 DROP COLUMN note;
SELECT durable_event.publish_event('t', 'no note', '{}') IS NOT NULL AS published;
DROP VIEW durable_event.outbox;
ALTER EXTENSION durable_event DROP VIEW durable_event.outbox;
DROP VIEW durable_event.outbox;
BEGIN;
ALTER TABLE durable_event.outbox_0 ALTER key TYPE text USING NULL;
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
COMMIT;
ALTER TABLE durable_event.outbox_0 SET UNLOGGED;
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
ALTER TABLE durable_event.outbox_0 SET LOGGED;
SELECT convert_from(key, 'UTF8') AS key FROM durable_event.outbox_0 ORDER BY id;
-- a function as an older version may have declared it
CREATE FUNCTION old_pending_events(OUT event_id uuid, OUT payload jsonb) RETURNS SETOF record
	LANGUAGE c AS '$libdir/durable_event', 'durable_event_pending_events';
SELECT * FROM old_pending_events();
\c contrib_regression
DROP DATABASE regress_de_trust;
DROP ROLE regress_de_owner;
