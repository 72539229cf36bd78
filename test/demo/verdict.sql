-- Compares what the tables say, what the outbox kept and what the handler logged.
-- Variables: log (the handler's file), begin (of the load), in_kafka (records counted there).
-- Leaves the tables "expected", "receipt" and "verdict" for run to read.

SET client_min_messages = warning;

-- committed events, with the time of their commit (before it was flushed to disk)
CREATE TABLE expected AS
SELECT id, event_id, convert_from(event_type, 'UTF8') AS event_type,
	pg_xact_commit_timestamp(transaction) AS committed_at
FROM (
	SELECT id, event_id, event_type, xmin AS transaction FROM durable_event.outbox_0
	UNION ALL SELECT id, event_id, event_type, xmin FROM durable_event.outbox_1
	UNION ALL SELECT id, event_id, event_type, xmin FROM durable_event.outbox_2
	UNION ALL SELECT id, event_id, event_type, xmin FROM durable_event.outbox_3
	UNION ALL SELECT id, event_id, event_type, xmin FROM durable_event.outbox_4
	UNION ALL SELECT id, event_id, event_type, xmin FROM durable_event.outbox_5
	UNION ALL SELECT id, event_id, event_type, xmin FROM durable_event.outbox_6
	UNION ALL SELECT id, event_id, event_type, xmin FROM durable_event.outbox_7
) AS segments;

-- what the handler got, in the order in which it got it; a line of its log is a request
CREATE TABLE delivery (n bigint GENERATED ALWAYS AS IDENTITY, request jsonb);
COPY delivery (request) FROM :'log' (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');

CREATE TABLE receipt AS
SELECT row_number() OVER (ORDER BY n, place) AS n,
	request->'headers'->>'durable-event-group' AS group_name,
	'epoch'::timestamptz + (request->>'time')::bigint * interval '1 microsecond' AS received_at,
	event->>'kafkatopic' AS topic, event->>'kafkapartition' AS partition,
	(event->>'id')::uuid AS event_id, event->>'type' AS event_type, event->>'subject' AS key,
	event->>'sequence' AS sequence, event->'data' AS data
FROM delivery, jsonb_array_elements(CASE WHEN jsonb_typeof(request->'body') = 'array'
		THEN request->'body' ELSE jsonb_build_array(request->'body') END)
	WITH ORDINALITY AS events (event, place)
WHERE request->'status' = '200';

-- Order, in three ways: a version follows the one before; the old balance in an event is the
-- new one of the event before, whatever is lost, repeated or turned round breaks that; and
-- events come in commit order on each partition.
CREATE TABLE verdict AS
WITH first_occurrence AS (
	SELECT DISTINCT ON (group_name, event_id) *,
		coalesce(data->'version', data->'new'->'abalance', data->'new'->'tbalance',
				 data->'new'->'bbalance')::text::bigint AS new_value,
		coalesce(data->'old'->'abalance', data->'old'->'tbalance',
				 data->'old'->'bbalance')::text::bigint AS old_value
	FROM receipt
	ORDER BY group_name, event_id, n
), with_previous AS (
	SELECT *, lag(new_value) OVER of_key AS previous,
		lag(sequence) OVER (PARTITION BY group_name, topic, partition ORDER BY n) AS previous_sequence
	FROM first_occurrence
	WINDOW of_key AS (PARTITION BY group_name, event_type, key ORDER BY n)
)
SELECT g.name, g.mode,
	count(f.event_id) AS handled,
	(SELECT count(*) FROM receipt AS r WHERE r.group_name = g.name) - count(f.event_id) AS duplicates,
	(SELECT count(*) FROM expected AS e WHERE e.event_type = ANY (g.event_types)) AS expected,
	(SELECT count(*) FROM expected AS e WHERE e.event_type = ANY (g.event_types)
		AND NOT EXISTS (SELECT FROM receipt AS r
						WHERE r.group_name = g.name AND r.event_id = e.event_id)) AS missing,
	count(*) FILTER (WHERE e.event_id IS NULL AND f.event_id IS NOT NULL) AS uncommitted,
	count(*) FILTER (WHERE f.sequence < f.previous_sequence
		OR f.old_value <> f.previous
		OR f.event_type = 'payment_received'
			AND f.new_value <> coalesce(f.previous, 0) + 1) AS violations,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY milliseconds)
		FILTER (WHERE e.committed_at >= :'begin') AS p50,
	percentile_cont(0.99) WITHIN GROUP (ORDER BY milliseconds)
		FILTER (WHERE e.committed_at >= :'begin') AS p99
FROM durable_event.consumer_group AS g
	LEFT JOIN with_previous AS f ON f.group_name = g.name
	LEFT JOIN expected AS e USING (event_id)
	CROSS JOIN LATERAL (SELECT extract(epoch FROM f.received_at - e.committed_at) * 1000)
		AS latency (milliseconds)
GROUP BY g.name, g.mode, g.event_types;

CREATE TABLE totals AS
SELECT (SELECT count(*) FROM pgbench_history) AS transfers,
	(SELECT sum(version) FROM customer) AS payments,
	(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM rolled_back) AS rolled_back,
	(SELECT count(*) FROM expected) AS events,
	:in_kafka::bigint AS in_kafka;
