-- G1: an event is published if and only if its (sub)transaction commits
CREATE TEMP VIEW events AS SELECT key, payload FROM durable_event.outbox WHERE event_type = 'tx' ORDER BY id;
CREATE FUNCTION pg_temp.publish(key text) RETURNS void LANGUAGE sql AS
$$ SELECT durable_event.publish_event('tx', key, '{}') $$;
BEGIN;
SELECT pg_temp.publish('rolled back');
ROLLBACK;
BEGIN;
SELECT pg_temp.publish('a1');
SAVEPOINT s1;
SELECT pg_temp.publish('gone 1');
SAVEPOINT s2;
SELECT pg_temp.publish('gone 2');
RELEASE SAVEPOINT s2;
SELECT pg_temp.publish('gone 3');
ROLLBACK TO SAVEPOINT s1;
SELECT pg_temp.publish('a2');
RELEASE SAVEPOINT s1;
SELECT pg_temp.publish('a3');
SAVEPOINT s3;
SAVEPOINT s4;
SELECT pg_temp.publish('a4');
RELEASE SAVEPOINT s4;
RELEASE SAVEPOINT s3;
SELECT key FROM durable_event.pending_events();
SELECT count(*) FROM events;
COMMIT;
SELECT key FROM events;
SELECT count(*) FROM durable_event.pending_events();
-- first event in a subtransaction, then one level released and its parent rolled back
BEGIN;
SAVEPOINT s1;
SAVEPOINT s2;
SELECT pg_temp.publish('gone 4');
RELEASE SAVEPOINT s2;
ROLLBACK TO SAVEPOINT s1;
SELECT pg_temp.publish('b1');
SAVEPOINT s2;
SELECT pg_temp.publish('gone 5');
ROLLBACK TO SAVEPOINT s2;
ROLLBACK TO SAVEPOINT s2;
RELEASE SAVEPOINT s1;
COMMIT;
SELECT key FROM events OFFSET 4;
-- nothing left after rolling back to a savepoint
BEGIN;
SAVEPOINT s1;
SELECT pg_temp.publish('gone 6');
ROLLBACK TO SAVEPOINT s1;
COMMIT;
-- exception blocks, 10,000 subtransactions
DO $$
BEGIN
	FOR i IN 1 .. 10000 LOOP
		BEGIN
			PERFORM durable_event.publish_event('sub', i::text, '{}');
			IF i % 3 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END;
$$;
SELECT count(*), bool_or(key::int % 3 = 0) AS rolled_back, bool_and(key::int > previous::int) AS in_order
FROM (SELECT key, lag(key, 1, '0') OVER (ORDER BY id) AS previous FROM durable_event.outbox WHERE event_type = 'sub') AS s;
-- over work_mem: a temporary file, cut back and written over by subtransactions
SET work_mem = '64kB';
BEGIN;
SELECT count(durable_event.publish_event('spill', i::text, to_jsonb(repeat(i::text, 200)))) FROM generate_series(1, 500) AS i;
SAVEPOINT s1;
SELECT count(durable_event.publish_event('spill', 'gone', to_jsonb(repeat('x', 100 + i)))) FROM generate_series(1, 1000) AS i;
SELECT count(*) FROM durable_event.pending_events();
ROLLBACK TO SAVEPOINT s1;
SELECT count(*) FROM durable_event.pending_events();
SELECT count(durable_event.publish_event('spill', i::text, to_jsonb(repeat(i::text, 50)))) FROM generate_series(501, 600) AS i;
SELECT count(*), bool_and(payload #>> '{}' = repeat(key, CASE WHEN key::int <= 500 THEN 200 ELSE 50 END)) AS whole FROM durable_event.pending_events();
COMMIT;
SELECT count(*), bool_and(key::int = n) AS in_order, bool_and(payload #>> '{}' = repeat(key, CASE WHEN n <= 500 THEN 200 ELSE 50 END)) AS whole
FROM (SELECT key, payload, row_number() OVER (ORDER BY id) AS n FROM durable_event.outbox WHERE event_type = 'spill') AS s;
-- memory first, a savepoint there, the file afterwards, and back
BEGIN;
SELECT pg_temp.publish('c1');
SAVEPOINT s1;
SELECT count(durable_event.publish_event('tx', 'gone', to_jsonb(repeat('x', 1000)))) FROM generate_series(1, 500) AS i;
ROLLBACK TO SAVEPOINT s1;
SELECT pg_temp.publish('c2');
COMMIT;
SELECT key FROM events OFFSET 5;
-- all rolled back, with a file
BEGIN;
SAVEPOINT s1;
SELECT count(durable_event.publish_event('tx', 'gone', to_jsonb(repeat('x', 1000)))) FROM generate_series(1, 500) AS i;
ROLLBACK TO SAVEPOINT s1;
COMMIT;
RESET work_mem;
-- deferred triggers publish at commit
CREATE TABLE deferred (id int);
CREATE FUNCTION deferred_publish() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM durable_event.publish_event('tx', 'd' || NEW.id, '{}'); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER publish AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION deferred_publish();
BEGIN;
INSERT INTO deferred VALUES (2), (3);
SELECT pg_temp.publish('d1');
SELECT key FROM durable_event.pending_events();
COMMIT;
SELECT key FROM events OFFSET 7;
-- isolation levels
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.publish('e1');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pg_temp.publish('e2');
COMMIT;
SELECT key FROM events OFFSET 10;
-- two-phase commit
BEGIN;
SELECT pg_temp.publish('prepared');
PREPARE TRANSACTION 'durable_event';
BEGIN;
SAVEPOINT s1;
SELECT pg_temp.publish('gone');
ROLLBACK TO SAVEPOINT s1;
PREPARE TRANSACTION 'durable_event';
ROLLBACK PREPARED 'durable_event';
BEGIN;
SET LOCAL work_mem = '64kB';
SAVEPOINT s1;
SELECT count(durable_event.publish_event('tx', 'gone', to_jsonb(repeat('x', 1000)))) FROM generate_series(1, 500) AS i;
ROLLBACK TO SAVEPOINT s1;
PREPARE TRANSACTION 'durable_event';
COMMIT PREPARED 'durable_event';
-- read-only transactions
BEGIN READ ONLY;
SELECT pg_temp.publish('read only');
ROLLBACK;
-- parallel plans do not take it along
SELECT proparallel FROM pg_proc WHERE proname = 'publish_event';
CREATE FUNCTION lying(key text) RETURNS uuid LANGUAGE plpgsql PARALLEL SAFE AS
$$ BEGIN RETURN durable_event.publish_event('tx', key, '{}'); END $$;
-- debug_parallel_query since 16
SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SELECT lying('parallel');
SELECT set_config(name, 'off', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
DROP FUNCTION lying;
-- a cancelled statement, and a statement that fails at commit
BEGIN;
SELECT pg_temp.publish('f1');
SET LOCAL statement_timeout = '50 ms';
SELECT pg_sleep(10), pg_temp.publish('f2');
COMMIT;
CREATE TABLE unique_later (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO unique_later VALUES (1), (1);
SELECT pg_temp.publish('f3');
COMMIT;
SELECT key FROM events OFFSET 12;
DROP TABLE deferred, unique_later;
DROP FUNCTION deferred_publish;
