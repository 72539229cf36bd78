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
SELECT count(*), bool_and(payload::int = n) AS in_order FROM (SELECT payload, row_number() OVER (ORDER BY id) AS n FROM new_events) AS s;
-- large payloads go to TOAST at commit, where no snapshot is active
SELECT durable_event.publish_event('large', 'k', to_jsonb(string_agg(md5(i::text), ''))) IS NOT NULL AS published FROM generate_series(1, 10000) AS i;
SELECT length(payload #>> '{}') FROM durable_event.outbox WHERE event_type = 'large';
-- unicode
SELECT durable_event.publish_event('unicode', 'Schlüssel-😀', '{"näme": "日本"}', '{"h": "é"}') IS NOT NULL AS published;
SELECT key, payload, headers FROM durable_event.outbox WHERE event_type = 'unicode';
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
-- content types
SELECT durable_event.publish_binary_event('t', 'k', '\x00', NULL);
SELECT durable_event.publish_binary_event('t', 'k', '\x00', '');
SELECT durable_event.publish_binary_event('t', 'k', '\x00', E'text/plain\r\nx: y');
-- size: the limit counts key, payload and headers
SELECT durable_event.publish_event('t', 'k', to_jsonb(repeat('x', 998400))) IS NOT NULL AS published;
\set VERBOSITY terse
SELECT durable_event.publish_event('t', 'k', to_jsonb(repeat('x', 999424)));
SELECT durable_event.publish_event('t', repeat('k', 999424), '{}');
SELECT durable_event.publish_event('t', 'k', '{}', jsonb_build_object('h', repeat('x', 999424)));
SELECT durable_event.publish_binary_event('t', 'k', decode(repeat('00', 999424), 'hex'), 'a/b');
\set VERBOSITY default
-- an error in a transaction leaves nothing behind
BEGIN;
SELECT durable_event.publish_event('aborted', 'k', '{}') IS NOT NULL AS published;
SELECT durable_event.publish_event('', 'k', '{}');
COMMIT;
SELECT count(*) FROM durable_event.outbox WHERE event_type = 'aborted';
