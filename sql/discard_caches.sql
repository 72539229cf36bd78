-- Caches that any lock empties: each look at a catalog finds nothing of what the one before it
-- has left.  Servers built with assertions can do that (or with DISCARD_CACHES_ENABLED); on
-- others, Debian's for one, this shows the same without.
SELECT max_val::int > 0 AS can_discard FROM pg_settings WHERE name = 'debug_discard_caches' \gset
CREATE TABLE discarded (id int PRIMARY KEY, v text);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON discarded FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('discarded', 'id');
\if :can_discard
SET debug_discard_caches = 1;
\endif
BEGIN;
SELECT durable_event.publish_event('discarded.plain', 'k', '{"n": 1}', '{"h": "v"}') IS NOT NULL AS published;
INSERT INTO discarded VALUES (1, 'a'), (2, repeat('b', 3000));
UPDATE discarded SET id = id + 10;
SAVEPOINT s;
DELETE FROM discarded;
ROLLBACK TO s;
SELECT event_type, key, payload ->> 'op' AS op FROM durable_event.pending_events();
COMMIT;
SELECT event_type, key, payload ->> 'op' AS op FROM durable_event.outbox WHERE event_type LIKE 'discarded%' ORDER BY id;
-- values in the TOAST table, a limit of the outbox's size, registered types
SET durable_event.max_outbox_size = '10GB';
SELECT durable_event.publish_event('discarded.large', 'k', to_jsonb((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) AS i))) IS NOT NULL AS published;
SELECT length(payload #>> '{}') FROM durable_event.outbox WHERE event_type = 'discarded.large';
SET durable_event.event_types = 'registered';
INSERT INTO durable_event.event_type (name) VALUES ('discarded.registered');
SELECT durable_event.publish_event('discarded.registered', 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('discarded.plain', 'k', '{}');
DELETE FROM durable_event.event_type WHERE name = 'discarded.registered';
SELECT durable_event.publish_event('discarded.registered', 'k', '{}');
\if :can_discard
RESET debug_discard_caches;
\endif
RESET durable_event.event_types;
RESET durable_event.max_outbox_size;
DROP TABLE discarded;
