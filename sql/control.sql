-- settings, identity, flush(), check(): without Kafka
SELECT name, setting, unit, context FROM pg_settings WHERE name LIKE 'durable\_event.%' ORDER BY name COLLATE "C";
ALTER SYSTEM SET durable_event.source = 'not a uri';
ALTER SYSTEM SET durable_event.databases = 'a b';
ALTER SYSTEM SET durable_event.kafka_config = 'compression.codec';
ALTER SYSTEM SET durable_event.signing_secret = 'whsec_no base64';
ALTER SYSTEM SET durable_event.signing_secret_previous = 'whsec_YWJjY';
ALTER SYSTEM SET durable_event.handler_url = 'ftp://example.com';
SET durable_event.no_such_setting = 1;
-- nothing is sent before the source is set
DO $$
BEGIN
	FOR i IN 1 .. 1200 LOOP
		EXIT WHEN (SELECT state FROM durable_event.stat_relay) = 'unconfigured';
		PERFORM pg_sleep(0.05);
	END LOOP;
END;
$$;
SELECT state FROM durable_event.stat_relay;
SELECT durable_event.flush('0 s');
SELECT durable_event.adopt();
SELECT check_name, status, detail, hint FROM durable_event.check() WHERE check_name IN ('preloaded', 'database listed', 'source', 'bootstrap_servers', 'relay', 'proxy');
SELECT durable_event.pause_relay();
SELECT paused, source FROM durable_event.relay_state;
SELECT durable_event.resume_relay();
SELECT paused, source FROM durable_event.relay_state;
-- configuration that could not be run is refused
INSERT INTO durable_event.consumer_group (name, created_at) VALUES ('g', '2026-01-01');
INSERT INTO durable_event.consumer_group (name, event_types, handler_url, created_at) VALUES ('g', '{t}', 'file:///etc/passwd', '2026-01-01');
INSERT INTO durable_event.consumer_group (name, event_types, mode, created_at) VALUES ('g', '{t}', 'both', '2026-01-01');
INSERT INTO durable_event.consumer_group (name, event_types, batch_max_events, created_at) VALUES ('g', '{t}', 0, '2026-01-01');
INSERT INTO durable_event.consumer_group (name, event_types, backoff_min, backoff_max, created_at) VALUES ('g', '{t}', '2 s', '1 s', '2026-01-01');
INSERT INTO durable_event.consumer_group (name, event_types, handler_headers, created_at) VALUES ('g', '{t}', '[]', '2026-01-01');
INSERT INTO durable_event.consumer_group (name, event_types, created_at) VALUES ('g', '{t}', 'infinity');
INSERT INTO durable_event.event_type (name, topic) VALUES ('t', 'not a topic');
INSERT INTO durable_event.event_type (name, partitions) VALUES ('t', 0);
INSERT INTO durable_event.consumer_group (name, event_types, handler_url, created_at) VALUES ('g', '{t}', 'http://127.0.0.1:1/', '2026-01-01');
SELECT * FROM durable_event.consumer_group;
SELECT status, detail FROM durable_event.check() WHERE check_name = 'proxy';
SELECT * FROM durable_event.stat_group;
DELETE FROM durable_event.consumer_group;
