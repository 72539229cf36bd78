/* extension/durable_event--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION durable_event" to load this file. \quit

-- Expressions below are kept as the objects that their names mean now, and later run with the
-- rights of whoever writes the tables: no schema but the server's own is searched.
SET LOCAL search_path = pg_catalog, pg_temp;

-- The extension makes its schema: in one that is there already somebody else may have put
-- functions and operators, or may do so later.  As a member of the extension it goes with it.
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'durable_event') THEN
		RAISE EXCEPTION USING
			ERRCODE = 'duplicate_schema',
			MESSAGE = 'schema "durable_event" exists already',
			DETAIL = 'Its owner could make the extension run what he has put into it.',
			HINT = 'Drop or rename it and try again; CREATE EXTENSION makes the schema.';
	END IF;
END;
$$;
CREATE SCHEMA durable_event;
COMMENT ON SCHEMA durable_event IS 'extension durable_event; must keep its name';

--
-- Configuration that operators edit
--

CREATE TABLE durable_event.event_type (
	name text COLLATE "C" NOT NULL,
	topic text COLLATE "C",
	partitions integer,
	replication_factor integer,
	topic_config jsonb,
	description text,
	CONSTRAINT event_type_pkey PRIMARY KEY (name),
	CONSTRAINT event_type_name_check CHECK (name <> ''),
	CONSTRAINT event_type_topic_check
		CHECK (topic ~ '^[a-zA-Z0-9._-]{1,249}$' AND topic NOT IN ('.', '..')),
	CONSTRAINT event_type_partitions_check CHECK (partitions BETWEEN 1 AND 10000),
	CONSTRAINT event_type_replication_factor_check CHECK (replication_factor BETWEEN 1 AND 32767),
	CONSTRAINT event_type_topic_config_check CHECK (pg_catalog.jsonb_typeof(topic_config) = 'object')
);

CREATE TABLE durable_event.consumer_group (
	name text COLLATE "C" NOT NULL,
	event_types text[] NOT NULL DEFAULT '{}',
	topics text[] NOT NULL DEFAULT '{}',
	handler_url text,
	mode text NOT NULL DEFAULT 'batch',
	batch_max_events integer NOT NULL DEFAULT 100,
	batch_max_bytes integer NOT NULL DEFAULT 1048576,
	linger interval NOT NULL DEFAULT '5 ms',
	ordering text NOT NULL DEFAULT 'partition',
	max_in_flight integer NOT NULL DEFAULT 1,
	timeout interval NOT NULL DEFAULT '30 s',
	max_attempts integer,
	max_age interval,
	backoff_min interval NOT NULL DEFAULT '200 ms',
	backoff_max interval NOT NULL DEFAULT '1 min',
	dead_letter boolean NOT NULL DEFAULT false,
	start_from text NOT NULL DEFAULT 'earliest',
	enabled boolean NOT NULL DEFAULT true,
	handler_headers jsonb,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	CONSTRAINT consumer_group_pkey PRIMARY KEY (name),
	CONSTRAINT consumer_group_name_check
		CHECK (pg_catalog.octet_length(name) BETWEEN 1 AND 127),
	CONSTRAINT consumer_group_subscription_check
		CHECK (pg_catalog.cardinality(event_types) + pg_catalog.cardinality(topics) > 0
			   AND pg_catalog.array_position(event_types, NULL) IS NULL
			   AND pg_catalog.array_position(topics, NULL) IS NULL),
	CONSTRAINT consumer_group_handler_url_check
		CHECK (handler_url ~ '^https?://[^[:space:][:cntrl:]]+$'),
	CONSTRAINT consumer_group_mode_check CHECK (mode IN ('single', 'batch')),
	CONSTRAINT consumer_group_batch_max_events_check CHECK (batch_max_events BETWEEN 1 AND 10000),
	CONSTRAINT consumer_group_batch_max_bytes_check CHECK (batch_max_bytes BETWEEN 1024 AND 67108864),
	CONSTRAINT consumer_group_linger_check CHECK (linger BETWEEN interval '0' AND interval '1 min'),
	-- the other orderings, attempt limits and dead letters are not built yet:
	-- refused here rather than accepted and ignored
	CONSTRAINT consumer_group_ordering_check CHECK (ordering IN ('partition')),
	CONSTRAINT consumer_group_max_in_flight_check CHECK (max_in_flight = 1),
	CONSTRAINT consumer_group_max_attempts_check CHECK (max_attempts IS NULL),
	CONSTRAINT consumer_group_max_age_check CHECK (max_age IS NULL),
	CONSTRAINT consumer_group_dead_letter_check CHECK (NOT dead_letter),
	CONSTRAINT consumer_group_timeout_check
		CHECK (timeout BETWEEN interval '10 ms' AND interval '1 hour'),
	CONSTRAINT consumer_group_backoff_check
		CHECK (backoff_min >= interval '1 ms' AND backoff_max >= backoff_min
			   AND backoff_max <= interval '1 day'),
	CONSTRAINT consumer_group_start_from_check CHECK (start_from IN ('earliest', 'latest')),
	CONSTRAINT consumer_group_created_at_check CHECK (pg_catalog.isfinite(created_at)),
	CONSTRAINT consumer_group_handler_headers_check CHECK (pg_catalog.jsonb_typeof(handler_headers) = 'object')
);

--
-- Outbox
--

CREATE FUNCTION durable_event.guard_outbox() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'durable_event_guard_outbox';
COMMENT ON FUNCTION durable_event.guard_outbox() IS 'trigger of the outbox segments: rows come in by publish_event() only; replicated ones are left out, as replicated changes of relay_state are';

-- A ring of insert-only segments.  Everything is bytes in UTF-8, as Kafka will
-- get them, whatever the encoding of the database.  Autovacuum has nothing to
-- do here: there are no updates or deletions, and a segment is emptied before
-- long (anti-wraparound vacuum still comes if it is not).

DO $$
DECLARE
	relation name;
BEGIN
	FOR i IN 0 .. 7 LOOP
		relation := 'outbox_' || i;
		EXECUTE format('CREATE TABLE durable_event.%I (
				id bigint NOT NULL,
				event_id uuid NOT NULL,
				created_at timestamptz NOT NULL,
				event_type bytea NOT NULL,
				key bytea,
				content_type bytea,
				headers bytea,
				payload bytea
			) USING heap WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false)', relation);
		EXECUTE format('CREATE INDEX %I ON durable_event.%I (id)', relation || '_id_idx', relation);
		EXECUTE format('CREATE TRIGGER guard BEFORE INSERT ON durable_event.%I
			FOR EACH ROW EXECUTE FUNCTION durable_event.guard_outbox()', relation);
		EXECUTE format('ALTER TABLE durable_event.%I ENABLE ALWAYS TRIGGER guard', relation);
		EXECUTE format('CREATE TRIGGER guard_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON durable_event.%I
			FOR EACH STATEMENT EXECUTE FUNCTION durable_event.guard_outbox()', relation);
		EXECUTE format('COMMENT ON TABLE durable_event.%I IS %L', relation,
			'segment of the outbox; see the view durable_event.outbox');
		-- values over 2 kB are compressed while a commit holds the others'; pglz takes four times as long
		BEGIN
			EXECUTE format('ALTER TABLE durable_event.%I ALTER headers SET COMPRESSION lz4,
				ALTER payload SET COMPRESSION lz4', relation);
		EXCEPTION WHEN feature_not_supported THEN
			NULL; -- a server built without it
		END;
	END LOOP;
END;
$$;

CREATE FUNCTION durable_event.decode_text(bytea) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'durable_event_decode_text';
COMMENT ON FUNCTION durable_event.decode_text(bytea) IS 'text stored in UTF-8, in the encoding of the database; throws untranslatable_character';

-- not a cast, which would look at the text again and could fail for a row
CREATE FUNCTION durable_event.decode_json(bytea) RETURNS json
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'durable_event_decode_text';
COMMENT ON FUNCTION durable_event.decode_json(bytea) IS 'JSON stored in UTF-8, in the encoding of the database; used by the view outbox';

CREATE FUNCTION durable_event.decode_headers(bytea) RETURNS jsonb
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'durable_event_decode_headers';
COMMENT ON FUNCTION durable_event.decode_headers(bytea) IS 'headers as stored in the outbox, as an object of strings';

CREATE VIEW durable_event.outbox AS
SELECT id,
	event_id,
	created_at,
	durable_event.decode_text(event_type) AS event_type,
	durable_event.decode_text(key) AS key,
	CASE WHEN content_type IS NULL THEN durable_event.decode_json(payload) END AS payload,
	CASE WHEN content_type IS NOT NULL THEN payload END AS binary_payload,
	coalesce(durable_event.decode_text(content_type), 'application/json') AS content_type,
	durable_event.decode_headers(headers) AS headers,
	segment
FROM (
	SELECT 0 AS segment, * FROM durable_event.outbox_0
	UNION ALL SELECT 1 AS segment, * FROM durable_event.outbox_1
	UNION ALL SELECT 2 AS segment, * FROM durable_event.outbox_2
	UNION ALL SELECT 3 AS segment, * FROM durable_event.outbox_3
	UNION ALL SELECT 4 AS segment, * FROM durable_event.outbox_4
	UNION ALL SELECT 5 AS segment, * FROM durable_event.outbox_5
	UNION ALL SELECT 6 AS segment, * FROM durable_event.outbox_6
	UNION ALL SELECT 7 AS segment, * FROM durable_event.outbox_7
) AS segments;
COMMENT ON VIEW durable_event.outbox IS 'committed events: those not sent yet, and those sent less than durable_event.retention ago';
COMMENT ON COLUMN durable_event.outbox.id IS 'place in commit order; the ce_sequence of the event';
COMMENT ON COLUMN durable_event.outbox.event_id IS 'identity of the event (UUID version 7); its ce_id';
COMMENT ON COLUMN durable_event.outbox.created_at IS 'when it was published; its ce_time';
COMMENT ON COLUMN durable_event.outbox.event_type IS 'its ce_type';
COMMENT ON COLUMN durable_event.outbox.key IS 'key of the Kafka record and ce_subject; null = no order';
COMMENT ON COLUMN durable_event.outbox.payload IS 'payload if it is JSON, as it was published (what jsonb refuses, such as \u0000, can be in it); null also for a tombstone';
COMMENT ON COLUMN durable_event.outbox.binary_payload IS 'payload if it is not JSON; null also for a tombstone';
COMMENT ON COLUMN durable_event.outbox.content_type IS 'content type of the payload';
COMMENT ON COLUMN durable_event.outbox.headers IS 'headers given by the publisher';
COMMENT ON COLUMN durable_event.outbox.segment IS 'number of the segment table that holds it';

--
-- State of the relay
--

CREATE SEQUENCE durable_event.relay_progress MINVALUE 0 START 0;
COMMENT ON SEQUENCE durable_event.relay_progress IS 'stored progress: a restarted relay begins after this id; a sequence, since it changes in place';

CREATE TABLE durable_event.relay_state (
	singleton boolean NOT NULL DEFAULT true,
	source text,
	database oid,
	paused boolean NOT NULL DEFAULT false,
	CONSTRAINT relay_state_pkey PRIMARY KEY (singleton),
	CONSTRAINT relay_state_singleton_check CHECK (singleton)
);
INSERT INTO durable_event.relay_state DEFAULT VALUES;
COMMENT ON TABLE durable_event.relay_state IS 'whose events these are: one row, written by the relay and by adopt(), pause_relay() and resume_relay()';
COMMENT ON COLUMN durable_event.relay_state.singleton IS 'always true: there is one row';
COMMENT ON COLUMN durable_event.relay_state.source IS 'durable_event.source when the first relay ran here or adopt() was called; null = no relay has run';
COMMENT ON COLUMN durable_event.relay_state.database IS 'OID of the database that the source was stored in: in a copy it is another one';
COMMENT ON COLUMN durable_event.relay_state.paused IS 'set by pause_relay()';

-- a publication FOR ALL TABLES must not tell a subscriber whose events it has
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON durable_event.relay_state
	FOR EACH ROW EXECUTE FUNCTION durable_event.guard_outbox();
ALTER TABLE durable_event.relay_state ENABLE REPLICA TRIGGER guard;

CREATE FUNCTION durable_event.config_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'durable_event_config_changed';
COMMENT ON FUNCTION durable_event.config_changed() IS 'trigger of the configuration tables: tells the workers, here and on standbys';

-- for each row: what replication applies fires no statement triggers
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON durable_event.event_type
	FOR EACH ROW EXECUTE FUNCTION durable_event.config_changed();
ALTER TABLE durable_event.event_type ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_truncated AFTER TRUNCATE ON durable_event.event_type
	FOR EACH STATEMENT EXECUTE FUNCTION durable_event.config_changed();
ALTER TABLE durable_event.event_type ENABLE ALWAYS TRIGGER config_truncated;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON durable_event.consumer_group
	FOR EACH ROW EXECUTE FUNCTION durable_event.config_changed();
ALTER TABLE durable_event.consumer_group ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_truncated AFTER TRUNCATE ON durable_event.consumer_group
	FOR EACH STATEMENT EXECUTE FUNCTION durable_event.config_changed();
ALTER TABLE durable_event.consumer_group ENABLE ALWAYS TRIGGER config_truncated;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON durable_event.relay_state
	FOR EACH ROW EXECUTE FUNCTION durable_event.config_changed();
ALTER TABLE durable_event.relay_state ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_truncated AFTER TRUNCATE ON durable_event.relay_state
	FOR EACH STATEMENT EXECUTE FUNCTION durable_event.config_changed();
ALTER TABLE durable_event.relay_state ENABLE ALWAYS TRIGGER config_truncated;

--
-- Publishing
--

CREATE FUNCTION durable_event.publish_event(event_type text, key text, payload jsonb, headers jsonb DEFAULT NULL)
	RETURNS uuid
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'durable_event_publish_event';
COMMENT ON FUNCTION durable_event.publish_event(text, text, jsonb, jsonb) IS
'publishes an event when this transaction commits; returns its identity (the ce_id). A null key means no order, a null payload a tombstone.
Throws null_value_not_allowed, invalid_parameter_value (event type or header), reserved_name (header), program_limit_exceeded (over durable_event.max_event_size), configuration_limit_exceeded (outbox full), read_only_sql_transaction, object_not_in_prerequisite_state (library not preloaded)';

CREATE FUNCTION durable_event.publish_binary_event(event_type text, key text, payload bytea, content_type text, headers jsonb DEFAULT NULL)
	RETURNS uuid
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'durable_event_publish_binary_event';
COMMENT ON FUNCTION durable_event.publish_binary_event(text, text, bytea, text, jsonb) IS
'publishes an event whose payload is not JSON when this transaction commits; returns its identity. Throws as publish_event()';

CREATE FUNCTION durable_event.publish_row() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'durable_event_publish_row';
COMMENT ON FUNCTION durable_event.publish_row() IS
'row trigger, AFTER INSERT OR UPDATE OR DELETE: publish_row(event_type, key_columns [, ''columns=a,b,c'']) publishes {"op": "created|updated|deleted", "new": {...}, "old": {...}}. Throws as publish_event(), undefined_column, and null_value_not_allowed for a null key column';

CREATE FUNCTION durable_event.pending_events(
	OUT event_id uuid, OUT event_type text, OUT key text, OUT payload json, OUT binary_payload bytea,
	OUT content_type text, OUT headers jsonb, OUT created_at timestamptz) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'durable_event_pending_events';
COMMENT ON FUNCTION durable_event.pending_events() IS
'what this transaction has published so far, in order; for tests that are rolled back';

--
-- Steering and seeing
--

CREATE FUNCTION durable_event.flush(timeout interval DEFAULT '30 s') RETURNS boolean
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'durable_event_flush';
COMMENT ON FUNCTION durable_event.flush(interval) IS
'waits until every event committed before the call is acknowledged by Kafka; false if that takes longer than timeout';

CREATE FUNCTION durable_event.pause_relay() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'durable_event_pause_relay';
COMMENT ON FUNCTION durable_event.pause_relay() IS
'stops the relay of this database from sending, until resume_relay(), also over restarts; events are kept';

CREATE FUNCTION durable_event.resume_relay() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'durable_event_resume_relay';
COMMENT ON FUNCTION durable_event.resume_relay() IS 'lets the relay go on after pause_relay()';

CREATE FUNCTION durable_event.adopt() RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'durable_event_adopt';
COMMENT ON FUNCTION durable_event.adopt() IS
'makes the configured durable_event.source the stored one, so that relay and proxies of this database go on under it; returns it. Throws object_not_in_prerequisite_state if none is set';

CREATE FUNCTION durable_event.check(
	OUT check_name text, OUT status text, OUT detail text, OUT hint text) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'durable_event_check';
COMMENT ON FUNCTION durable_event.check() IS
'looks for what is often set up wrong; status is ok, warning or error, the hint says what to do';

CREATE FUNCTION durable_event.stat_relay(
	OUT pid integer, OUT state text, OUT since timestamptz, OUT drawn_id bigint, OUT read_id bigint,
	OUT acked_id bigint, OUT stored_id bigint, OUT lag bigint, OUT lag_seconds double precision,
	OUT events_acked bigint, OUT bytes_acked bigint, OUT produce_errors bigint,
	OUT last_acked_at timestamptz, OUT last_error text, OUT last_error_at timestamptz,
	OUT commit_pid integer, OUT commit_seconds double precision)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'durable_event_stat_relay';
COMMENT ON FUNCTION durable_event.stat_relay() IS 'source of the view stat_relay';

CREATE VIEW durable_event.stat_relay AS SELECT * FROM durable_event.stat_relay();
COMMENT ON VIEW durable_event.stat_relay IS 'the relay of this database: one row';
COMMENT ON COLUMN durable_event.stat_relay.pid IS 'its process; null = none';
COMMENT ON COLUMN durable_event.stat_relay.state IS 'stopped, starting, extension missing, unconfigured, source mismatch, paused, connecting or running';
COMMENT ON COLUMN durable_event.stat_relay.since IS 'when it came into this state';
COMMENT ON COLUMN durable_event.stat_relay.drawn_id IS 'largest id given out; null = not known yet since the server start';
COMMENT ON COLUMN durable_event.stat_relay.read_id IS 'events up to this id were handed to the producer';
COMMENT ON COLUMN durable_event.stat_relay.acked_id IS 'events up to this id are acknowledged by Kafka';
COMMENT ON COLUMN durable_event.stat_relay.stored_id IS 'stored progress: where a restart would begin';
COMMENT ON COLUMN durable_event.stat_relay.lag IS 'events given an id and not acknowledged, at most; null while the relay has not caught up with what was there at the server start';
COMMENT ON COLUMN durable_event.stat_relay.lag_seconds IS 'age of the oldest event in flight, in seconds; null = none';
COMMENT ON COLUMN durable_event.stat_relay.events_acked IS 'events acknowledged since the server start';
COMMENT ON COLUMN durable_event.stat_relay.bytes_acked IS 'bytes of them: keys, headers and payloads';
COMMENT ON COLUMN durable_event.stat_relay.produce_errors IS 'failed deliveries since the server start; each was tried again';
COMMENT ON COLUMN durable_event.stat_relay.last_acked_at IS 'when Kafka last acknowledged an event';
COMMENT ON COLUMN durable_event.stat_relay.last_error IS 'what went wrong last';
COMMENT ON COLUMN durable_event.stat_relay.last_error_at IS 'when that was';
COMMENT ON COLUMN durable_event.stat_relay.commit_pid IS 'the backend whose commit under way holds back the events of all later ones; null = none';
COMMENT ON COLUMN durable_event.stat_relay.commit_seconds IS 'for how long it has, in seconds; more than a moment is a commit that waits for a standby or a huge transaction';

CREATE FUNCTION durable_event.stat_group(
	OUT group_name text, OUT pid integer, OUT state text, OUT since timestamptz, OUT partitions integer,
	OUT "position" bigint, OUT lag bigint, OUT lag_seconds double precision, OUT in_flight bigint,
	OUT events_delivered bigint, OUT requests bigint, OUT failures bigint,
	OUT last_delivered_at timestamptz, OUT last_error text, OUT last_error_at timestamptz)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'durable_event_stat_group';
COMMENT ON FUNCTION durable_event.stat_group() IS 'source of the view stat_group';

CREATE VIEW durable_event.stat_group AS SELECT * FROM durable_event.stat_group();
COMMENT ON VIEW durable_event.stat_group IS 'the consumer groups of this database that proxies of this server run';
COMMENT ON COLUMN durable_event.stat_group.group_name IS 'name of the consumer group';
COMMENT ON COLUMN durable_event.stat_group.pid IS 'its proxy process';
COMMENT ON COLUMN durable_event.stat_group.state IS 'starting, joining, running, retrying, blocked, disconnected, invalid or stopping';
COMMENT ON COLUMN durable_event.stat_group.since IS 'when it came into this state';
COMMENT ON COLUMN durable_event.stat_group.partitions IS 'partitions assigned to this server';
COMMENT ON COLUMN durable_event.stat_group."position" IS 'sum over them of the next offset to commit';
COMMENT ON COLUMN durable_event.stat_group.lag IS 'events between that and the ends of the partitions; null = unknown';
COMMENT ON COLUMN durable_event.stat_group.lag_seconds IS 'age of the oldest event taken and not acknowledged, in seconds; null = none';
COMMENT ON COLUMN durable_event.stat_group.in_flight IS 'events in requests under way';
COMMENT ON COLUMN durable_event.stat_group.events_delivered IS 'events acknowledged by the handler since the proxy took the group';
COMMENT ON COLUMN durable_event.stat_group.requests IS 'requests finished, whatever the answer';
COMMENT ON COLUMN durable_event.stat_group.failures IS 'of those, not acknowledged';
COMMENT ON COLUMN durable_event.stat_group.last_delivered_at IS 'when the handler last acknowledged';
COMMENT ON COLUMN durable_event.stat_group.last_error IS 'what went wrong last';
COMMENT ON COLUMN durable_event.stat_group.last_error_at IS 'when that was';

COMMENT ON TABLE durable_event.event_type IS 'event types that need more than the defaults: a topic of their own, partitions, topic configuration';
COMMENT ON COLUMN durable_event.event_type.name IS 'event type as given to publish_event()';
COMMENT ON COLUMN durable_event.event_type.topic IS 'its topic; types that share one keep one order; null = durable_event.topic_prefix and the name';
COMMENT ON COLUMN durable_event.event_type.partitions IS 'partitions of the topic when the relay creates it; null = durable_event.topic_partitions';
COMMENT ON COLUMN durable_event.event_type.replication_factor IS 'replicas of the topic when the relay creates it; null = durable_event.topic_replication_factor';
COMMENT ON COLUMN durable_event.event_type.topic_config IS 'configuration of the topic when the relay creates it, such as {"retention.ms": "86400000"}';
COMMENT ON COLUMN durable_event.event_type.description IS 'for people';

COMMENT ON TABLE durable_event.consumer_group IS 'consumer groups that the proxies run';
COMMENT ON COLUMN durable_event.consumer_group.name IS 'name; with durable_event.group_prefix before it the group.id in Kafka';
COMMENT ON COLUMN durable_event.consumer_group.event_types IS 'event types it receives';
COMMENT ON COLUMN durable_event.consumer_group.topics IS 'further topics it receives, also of others';
COMMENT ON COLUMN durable_event.consumer_group.handler_url IS 'where its events are POSTed; null = durable_event.handler_url';
COMMENT ON COLUMN durable_event.consumer_group.mode IS 'batch: a JSON array of events in a request; single: one event';
COMMENT ON COLUMN durable_event.consumer_group.batch_max_events IS 'events in a request, at most';
COMMENT ON COLUMN durable_event.consumer_group.batch_max_bytes IS 'bytes of a request, at most, unless a single event is larger';
COMMENT ON COLUMN durable_event.consumer_group.linger IS 'how long after the last request a batch waits for more events; the first after a pause does not wait';
COMMENT ON COLUMN durable_event.consumer_group.ordering IS 'partition: the events of a partition one request after the other';
COMMENT ON COLUMN durable_event.consumer_group.max_in_flight IS 'requests of a partition under way at once';
COMMENT ON COLUMN durable_event.consumer_group.timeout IS 'how long a request may take';
COMMENT ON COLUMN durable_event.consumer_group.max_attempts IS 'attempts before an event is dead-lettered; null = no limit';
COMMENT ON COLUMN durable_event.consumer_group.max_age IS 'age at which an event is dead-lettered; null = no limit';
COMMENT ON COLUMN durable_event.consumer_group.backoff_min IS 'wait after the first failure, at most';
COMMENT ON COLUMN durable_event.consumer_group.backoff_max IS 'wait after many failures, at most';
COMMENT ON COLUMN durable_event.consumer_group.dead_letter IS 'whether the group has a dead-letter topic';
COMMENT ON COLUMN durable_event.consumer_group.start_from IS 'where a new group begins: earliest, or latest: with what is younger than created_at';
COMMENT ON COLUMN durable_event.consumer_group.enabled IS 'whether proxies run it';
COMMENT ON COLUMN durable_event.consumer_group.handler_headers IS 'further request headers, an object of strings';
COMMENT ON COLUMN durable_event.consumer_group.created_at IS 'when the group was made; with start_from latest, where it begins in partitions for which it has no offset: records with an older timestamp are not its';

-- Nothing is granted to PUBLIC (also not by default privileges of who installs this); the
-- README shows the GRANTs for a publisher, an operator and a monitor.
REVOKE ALL ON SCHEMA durable_event FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA durable_event FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA durable_event FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA durable_event FROM PUBLIC;

-- Configuration is dumped; events, progress and identity are not, so that a
-- restored copy publishes nothing of the original again.
SELECT pg_catalog.pg_extension_config_dump('durable_event.event_type', '');
SELECT pg_catalog.pg_extension_config_dump('durable_event.consumer_group', '');
