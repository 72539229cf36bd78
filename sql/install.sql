-- what CREATE EXTENSION makes, who may use it, and that all of it is described
CREATE EXTENSION durable_event;
-- everything has a comment
SELECT pg_describe_object(classid, objid, objsubid) AS uncommented
FROM pg_depend AS d
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'durable_event')
	AND classid IN ('pg_class'::regclass, 'pg_proc'::regclass)
	AND NOT EXISTS (SELECT FROM pg_class WHERE oid = objid AND classid = 'pg_class'::regclass AND relkind IN ('i', 't'))
	AND obj_description(objid, classid::regclass::name) IS NULL;
SELECT attrelid::regclass AS relation, attname AS uncommented
FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
WHERE relnamespace = 'durable_event'::regnamespace AND relkind IN ('r', 'v') AND relname !~ '^outbox_'
	AND attnum > 0 AND col_description(attrelid, attnum) IS NULL;
-- nothing is granted to PUBLIC
SELECT p.oid::regprocedure FROM pg_proc AS p, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS a
WHERE pronamespace = 'durable_event'::regnamespace AND a.grantee = 0;
SELECT c.oid::regclass FROM pg_class AS c, aclexplode(relacl) AS a
WHERE relnamespace = 'durable_event'::regnamespace AND a.grantee = 0;
-- what pg_dump takes
SELECT unnest(extconfig)::regclass FROM pg_extension WHERE extname = 'durable_event' ORDER BY 1;
-- not relocatable
ALTER EXTENSION durable_event SET SCHEMA public;
CREATE ROLE regress_de_publisher;
SET ROLE regress_de_publisher;
SELECT durable_event.publish_event('t', 'k', '{}');
RESET ROLE;
GRANT USAGE ON SCHEMA durable_event TO regress_de_publisher;
GRANT EXECUTE ON FUNCTION durable_event.publish_event(text, text, jsonb, jsonb) TO regress_de_publisher;
SET ROLE regress_de_publisher;
-- a publisher needs no rights on the tables
SELECT durable_event.publish_event('t', 'k', '{}') IS NOT NULL AS published;
SELECT count(*) FROM durable_event.outbox_0;
SELECT durable_event.flush('0 s');
RESET ROLE;
REVOKE ALL ON SCHEMA durable_event FROM regress_de_publisher;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA durable_event FROM regress_de_publisher;
DROP ROLE regress_de_publisher;
SELECT event_type, key, payload FROM durable_event.outbox;
