-- databases that are not in UTF-8: events are stored in UTF-8, as Kafka gets them
CREATE DATABASE regress_de_latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
CREATE DATABASE regress_de_ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
\c regress_de_latin1
SET client_encoding = 'UTF8';
SET client_min_messages = error;
CREATE EXTENSION durable_event;
SELECT durable_event.publish_event('latin1', 'Schlüssel', '{"näme": "Größe"}', '{"h": "é"}') IS NOT NULL AS published;
SELECT key, payload, headers FROM durable_event.outbox;
SELECT key, payload FROM durable_event.outbox_0;
BEGIN;
SELECT durable_event.publish_event('latin1', 'Schlüssel', '{"näme": "Größe"}', '{"h": "é"}') IS NOT NULL AS published;
SELECT key, payload, headers FROM durable_event.pending_events();
ROLLBACK;
CREATE TABLE t (id text PRIMARY KEY, v text);
CREATE TRIGGER publish AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('latin1_row', 'id');
INSERT INTO t VALUES ('ä', 'ß');
SELECT convert_from(key, 'UTF8'), convert_from(payload, 'UTF8') FROM durable_event.outbox_0 WHERE event_type = 'latin1_row';
-- a name that is no topic name is looked up in the database's encoding
INSERT INTO durable_event.event_type (name, topic) VALUES ('höhe', 'hoehe');
SELECT durable_event.publish_event('höhe', 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('tiefe?', 'k', '{}');
\c regress_de_ascii
SET client_min_messages = error;
CREATE EXTENSION durable_event;
-- without an encoding of its own, text has to be UTF-8
SELECT durable_event.publish_event('ascii', E'\xc3\xa4', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('ascii', E'\xe4', '{}') IS NOT NULL AS published;
SELECT key FROM durable_event.outbox_0;
\c contrib_regression
DROP DATABASE regress_de_latin1;
DROP DATABASE regress_de_ascii;
