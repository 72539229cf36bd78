-- publish_event() and publish_binary_event(): what is stored, what is refused
\set VERBOSITY default
CREATE TEMP TABLE mark AS SELECT coalesce(max(id), 0) AS id FROM durable_event.outbox;
CREATE TEMP VIEW new_events AS SELECT * FROM durable_event.outbox WHERE id > (SELECT id FROM mark) ORDER BY id;
SELECT durable_event.publish_event('invoice_created', 'invoice-1', '{"total": 12.50, "lines": [1, 2]}') IS NOT NULL AS published;
SELECT durable_event.publish_event('invoice_created', NULL, '"no key"') IS NOT NULL AS published;
SELECT durable_event.publish_event('invoice_created', '', 'null') IS NOT NULL AS published;
SELECT durable_event.publish_event('invoice_created', 'gone', NULL) IS NOT NULL AS published;
SELECT durable_event.publish_event('invoice_created', 'headers', '{}', '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tenant": "a b", "empty": ""}') IS NOT NULL AS published;
SELECT durable_event.publish_event('invoice_created', 'no headers', '{}', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_binary_event('picture', 'p-1', '\x00ff10', 'image/png') IS NOT NULL AS published;
SELECT durable_event.publish_binary_event('picture', 'p-2', '\x', 'image/png', '{"a": "1"}') IS NOT NULL AS published;
SELECT durable_event.publish_binary_event('picture', 'p-3', NULL, 'image/png') IS NOT NULL AS published;
SELECT event_type, key, payload, binary_payload, content_type, headers FROM new_events;
-- ids ascend, identities are UUIDs of version 7 that ascend as well
SELECT count(DISTINCT event_id), bool_and(substr(event_id::text, 15, 1) = '7') AS version_7,
	bool_and(substr(event_id::text, 20, 1) IN ('8', '9', 'a', 'b')) AS variant,
	bool_and(created_at BETWEEN now() - interval '1 min' AND clock_timestamp()) AS recent
FROM new_events;
SELECT bool_and(id = previous + 1) AS ids_dense FROM (SELECT id, lag(id) OVER (ORDER BY id) AS previous FROM new_events) AS s WHERE previous IS NOT NULL;
-- the identity returned is the one stored
SELECT durable_event.publish_event('returned', 'k', '{}') AS returned \gset
SELECT count(*) FROM durable_event.outbox WHERE event_id = :'returned';
-- many in one statement keep the order of the calls
TRUNCATE mark;
INSERT INTO mark SELECT max(id) FROM durable_event.outbox;
SELECT count(durable_event.publish_event('many', (i % 7)::text, to_jsonb(i))) FROM generate_series(1, 2500) AS i;
SELECT count(*), bool_and((payload #>> '{}')::int = n) AS in_order FROM (SELECT payload, row_number() OVER (ORDER BY id) AS n FROM new_events) AS s;
-- large payloads go to TOAST at commit, where no snapshot is active
SELECT durable_event.publish_event('large', 'k', to_jsonb(string_agg(md5(i::text), ''))) IS NOT NULL AS published FROM generate_series(1, 10000) AS i;
SELECT length(payload #>> '{}') FROM durable_event.outbox WHERE event_type = 'large';
-- unicode
SELECT durable_event.publish_event('unicode', 'Schlüssel-😀', '{"näme": "日本"}', '{"h": "é"}') IS NOT NULL AS published;
SELECT key, payload, headers FROM durable_event.outbox WHERE event_type = 'unicode';
-- a payload is what jsonb prints, byte for byte
CREATE TEMP TABLE documents AS
SELECT row_number() OVER ()::text AS key, document FROM (
	-- each character that may need an escape, at each place of strings of each length
	SELECT to_jsonb(repeat('x', place) || chr(c) || repeat('ü', length - place)) AS document
	FROM unnest(array[1, 8, 9, 10, 12, 13, 27, 31, 32, 33, 34, 35, 91, 92, 93, 127, 128, 160, 255, 8364, 128512]) AS c,
		generate_series(0, 20) AS length, generate_series(0, length) AS place
	UNION ALL SELECT jsonb_build_array(to_jsonb(repeat('\', n)), to_jsonb(repeat('"', n)), to_jsonb(repeat(E'\n', n)))
		FROM generate_series(0, 20) AS n
	UNION ALL SELECT unnest(array['null', 'true', 'false', '0', '-1.50', '1e-7', '12345678901234567890.123', '""', '[]', '{}', '[[]]', '[{}]',
		'{"": {}}', '{"a": []}', '[[], [], {}]', '[1, [2, [3, {"x": [4, {"y": 5}, 6]}], 7], {"z": null}]',
		'{"b": 1, "a": {"c": [true, false, null, "\u0007"]}, "\"": "\\"}', '[null]', '[[1], 2, [3]]', '{"a": {"b": 1}, "c": {"d": 2}}']::jsonb[])
) AS d;
SELECT count(durable_event.publish_event('json_text', key, document)) FROM documents;
SELECT count(*), bool_and(segment.payload = convert_to(document::text, 'UTF8')) AS same
FROM (SELECT * FROM durable_event.outbox_0 UNION ALL SELECT * FROM durable_event.outbox_1) AS segment
JOIN documents ON segment.key = convert_to(documents.key, 'UTF8') WHERE event_type = 'json_text';
DROP TABLE documents;
-- event types
SELECT durable_event.publish_event(NULL, 'k', '{}');
SELECT durable_event.publish_event('', 'k', '{}');
SELECT durable_event.publish_event('with space', 'k', '{}');
SELECT durable_event.publish_event('höhe', 'k', '{}');
SELECT durable_event.publish_event('a/b', 'k', '{}');
SELECT durable_event.publish_event(repeat('x', 235), 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event(repeat('x', 236), 'k', '{}');
INSERT INTO durable_event.event_type (name, topic) VALUES ('a/b', 'a-b'), ('c/d', NULL);
SELECT durable_event.publish_event('a/b', 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('c/d', 'k', '{}');
SET durable_event.topic_prefix = '';
SELECT durable_event.publish_event('.', 'k', '{}');
SELECT durable_event.publish_event(repeat('x', 249), 'k', '{}') IS NOT NULL AS published;
SET durable_event.topic_prefix = 'not a topic';
RESET durable_event.topic_prefix;
-- headers
SELECT durable_event.publish_event('t', 'k', '{}', '[]');
SELECT durable_event.publish_event('t', 'k', '{}', '"x"');
SELECT durable_event.publish_event('t', 'k', '{}', '{"a": 1}');
SELECT durable_event.publish_event('t', 'k', '{}', '{"a": null}');
SELECT durable_event.publish_event('t', 'k', '{}', '{"a": {"b": "c"}}');
SELECT durable_event.publish_event('t', 'k', '{}', '{"": "x"}');
SELECT durable_event.publish_event('t', 'k', '{}', '{"a b": "x"}');
SELECT durable_event.publish_event('t', 'k', '{}', '{"ä": "x"}');
SELECT durable_event.publish_event('t', 'k', '{}', '{"ce_id": "x"}');
SELECT durable_event.publish_event('t', 'k', '{}', '{"Content-Type": "x"}');
SELECT durable_event.publish_event('t', 'k', '{}', '{"durable-event-group": "x"}');
SELECT durable_event.publish_event('t', 'k', '{}', jsonb_object_agg('h' || i, i::text)) IS NOT NULL AS published FROM generate_series(1, 1000) AS i;
SELECT (SELECT count(*) FROM jsonb_object_keys(headers)) FROM durable_event.outbox WHERE event_type = 't' ORDER BY id DESC LIMIT 1;
SELECT durable_event.publish_event('t', 'k', '{}', jsonb_object_agg('h' || i, '')) FROM generate_series(1, 1001) AS i;
SELECT durable_event.publish_event('t', 'k', '{}', jsonb_build_object('h', repeat('x', 32768))) IS NOT NULL AS published;
SELECT durable_event.publish_event('t', 'k', '{}', jsonb_build_object('h', repeat('x', 32769)));
-- content types
SELECT durable_event.publish_binary_event('t', 'k', '\x00', NULL);
SELECT durable_event.publish_binary_event('t', 'k', '\x00', '');
SELECT durable_event.publish_binary_event('t', 'k', '\x00', E'text/plain\r\nx: y');
-- size: the limit counts key, payload and headers
SELECT durable_event.publish_event('t', 'k', to_jsonb(repeat('x', 998400))) IS NOT NULL AS published;
\set VERBOSITY terse
SELECT durable_event.publish_event('t', 'k', to_jsonb(repeat('x', 999424)));
SELECT durable_event.publish_event('t', repeat('k', 999424), '{}');
-- with what the relay adds, all counted: 576 bytes, twice the key, 64 for each header
SELECT durable_event.publish_event('t', 'k', to_jsonb(repeat('x', 999424 - 576 - 1 - 16 - 2 - 2))) IS NOT NULL AS published;
SELECT durable_event.publish_event('t', 'k', to_jsonb(repeat('x', 999424 - 576 - 1 - 16 - 2 - 2 + 1)));
SELECT durable_event.publish_event('t', 'k', to_jsonb(repeat('x', 999424 - 576 - 1 - 16 - 2 - 2 - 100)), jsonb_object_agg('h' || i, '')) FROM generate_series(10, 99) AS i;
SELECT durable_event.publish_event('t', 'k', '{}', jsonb_build_object('h', repeat('x', 999424)));
SELECT durable_event.publish_binary_event('t', 'k', decode(repeat('00', 999424), 'hex'), 'a/b');
\set VERBOSITY default
-- what Kafka would refuse for good is refused: a topic that it takes for a registered one, no key for a compacted topic
INSERT INTO durable_event.event_type (name, topic, topic_config) VALUES
	('order.created', NULL, NULL),
	('customer', 'durable_event.customers', '{"cleanup.policy": "delete, compact"}'),
	('customer_renamed', 'durable_event.customers', '{"cleanup.policy": "delete"}'),
	('plain', NULL, '{"cleanup.policy": "delete", "retention.ms": 1}');
SELECT durable_event.publish_event('order.created', 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('order_created', 'k', '{}');
INSERT INTO durable_event.event_type (name, topic) VALUES ('order_created', 'durable_event.order.created.too');
SELECT durable_event.publish_event('order_created', 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('order.created_too', 'k', '{}');
SELECT durable_event.publish_event('customer', 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('customer', '', NULL) IS NOT NULL AS published;
SELECT durable_event.publish_event('customer', NULL, '{}');
SELECT durable_event.publish_event('customer_renamed', NULL, '{}');
SELECT durable_event.publish_event('customers', NULL, '{}');
SELECT durable_event.publish_event('customer.s', NULL, '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('plain', NULL, '{}') IS NOT NULL AS published;
-- another prefix, other topics
SET durable_event.topic_prefix = 'x.';
SELECT durable_event.publish_event('customers', NULL, '{}') IS NOT NULL AS published;
SET durable_event.topic_prefix = 'durable_event_';
SELECT durable_event.publish_event('customers', 'k', '{}');
RESET durable_event.topic_prefix;
-- registered types alone
SET durable_event.event_types = 'registered';
SELECT durable_event.publish_event('order.created', 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('order.deleted', 'k', '{}');
-- changes count at once, also those of this transaction, and until it is rolled back
BEGIN;
INSERT INTO durable_event.event_type (name) VALUES ('order.deleted');
SELECT durable_event.publish_event('order.deleted', 'k', '{}') IS NOT NULL AS published;
SAVEPOINT s;
DELETE FROM durable_event.event_type WHERE name = 'order.created';
SELECT durable_event.publish_event('order.created', 'k', '{}');
ROLLBACK TO s;
SELECT durable_event.publish_event('order.created', 'k', '{}') IS NOT NULL AS published;
ROLLBACK;
SELECT durable_event.publish_event('order.deleted', 'k', '{}');
TRUNCATE durable_event.event_type;
SELECT durable_event.publish_event('order.created', 'k', '{}');
RESET durable_event.event_types;
SELECT durable_event.publish_event('order_created', 'k', '{}') IS NOT NULL AS published;
SET durable_event.event_types = 'some';
-- events of a transaction
SET durable_event.max_events_per_transaction = 3;
BEGIN;
SELECT count(durable_event.publish_event('t', 'k', '{}')) FROM generate_series(1, 2) AS i;
SAVEPOINT s;
SELECT count(durable_event.publish_event('t', 'k', '{}')) FROM generate_series(1, 2) AS i;
ROLLBACK TO s;
SELECT count(durable_event.publish_event('t', 'k', '{}')) FROM generate_series(1, 1) AS i;
COMMIT;
RESET durable_event.max_events_per_transaction;
-- an error in a transaction leaves nothing behind
BEGIN;
SELECT durable_event.publish_event('aborted', 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('', 'k', '{}');
COMMIT;
SELECT count(*) FROM durable_event.outbox WHERE event_type = 'aborted';
