-- publish_row(): the row trigger
CREATE TABLE invoice (id int PRIMARY KEY, tenant text, total numeric(10, 2), note text, secret text DEFAULT 's', tags jsonb);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON invoice
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('invoice_revised', 'id', 'columns=id,total,note,tags');
INSERT INTO invoice (id, tenant, total, note, tags) VALUES (1, 'a', 10, 'quote " and \ and ü', '{"x": [1]}'), (2, 'a', 20, NULL, NULL);
UPDATE invoice SET total = 11.5 WHERE id = 1;
UPDATE invoice SET id = 3 WHERE id = 2;
DELETE FROM invoice WHERE id = 1;
INSERT INTO invoice (id, total) VALUES (3, 0) ON CONFLICT (id) DO UPDATE SET total = 99;
BEGIN;
DELETE FROM invoice;
ROLLBACK;
SELECT key, payload FROM durable_event.outbox WHERE event_type = 'invoice_revised' ORDER BY id;
DROP TRIGGER publish ON invoice;
-- all columns, several key columns
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON invoice
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('invoice_all', 'tenant,id');
ALTER TABLE invoice DROP COLUMN note;
INSERT INTO invoice (id, tenant, total) VALUES (4, 'a/b%', 1);
SELECT key, payload FROM durable_event.outbox WHERE event_type = 'invoice_all' ORDER BY id;
INSERT INTO invoice (id, total) VALUES (5, 1);
DROP TRIGGER publish ON invoice;
-- wrong uses
CREATE TRIGGER publish BEFORE INSERT ON invoice FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('t', 'id');
INSERT INTO invoice (id) VALUES (6);
DROP TRIGGER publish ON invoice;
CREATE TRIGGER publish AFTER INSERT ON invoice FOR EACH STATEMENT EXECUTE FUNCTION durable_event.publish_row('t', 'id');
INSERT INTO invoice (id) VALUES (6);
DROP TRIGGER publish ON invoice;
CREATE TRIGGER publish AFTER INSERT ON invoice FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('t');
INSERT INTO invoice (id) VALUES (6);
DROP TRIGGER publish ON invoice;
CREATE TRIGGER publish AFTER INSERT ON invoice FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('t', 'id', 'note');
INSERT INTO invoice (id) VALUES (6);
DROP TRIGGER publish ON invoice;
CREATE TRIGGER publish AFTER INSERT ON invoice FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('t', 'missing');
INSERT INTO invoice (id) VALUES (6);
DROP TRIGGER publish ON invoice;
CREATE TRIGGER publish AFTER INSERT ON invoice FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('not a type', 'id');
INSERT INTO invoice (id) VALUES (6);
DROP TABLE invoice;
-- partitioned tables: a row that moves is deleted there and created here
CREATE TABLE measure (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE measure_a PARTITION OF measure FOR VALUES IN ('a');
CREATE TABLE measure_b PARTITION OF measure FOR VALUES IN ('b');
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON measure
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('measure', 'id');
INSERT INTO measure VALUES (1, 'a');
UPDATE measure SET region = 'b';
SELECT key, payload FROM durable_event.outbox WHERE event_type = 'measure' ORDER BY id;
DROP TABLE measure;
-- and partitions whose columns stand in another order
CREATE TABLE measure (id int, region text, at timestamptz, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE measure_a PARTITION OF measure FOR VALUES IN ('a');
CREATE TABLE measure_b (gone int, at timestamptz, region text NOT NULL, also_gone text, id int NOT NULL);
ALTER TABLE measure_b DROP COLUMN gone, DROP COLUMN also_gone;
ALTER TABLE measure ATTACH PARTITION measure_b FOR VALUES IN ('b');
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON measure
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('measure_other', 'region,id', 'columns=id,at');
BEGIN;
INSERT INTO measure VALUES (1, 'a', '2026-01-01 00:00+00'), (2, 'b', '2026-01-02 00:00+00');
UPDATE measure SET region = CASE region WHEN 'a' THEN 'b' ELSE 'a' END;
SELECT key, payload FROM durable_event.pending_events();
ROLLBACK;
DROP TABLE measure;
-- what a foreign key cascades: children follow their parents
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (pid int REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON parent
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('parent', 'id');
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON child
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('child', 'pid');
BEGIN;
INSERT INTO parent VALUES (1), (10);
INSERT INTO child VALUES (1), (10);
UPDATE parent SET id = id + 1;
DELETE FROM parent WHERE id = 2;
SELECT event_type, key, payload ->> 'op' AS op FROM durable_event.pending_events() OFFSET 4;
ROLLBACK;
DROP TABLE child, parent;
-- toasted values
CREATE TABLE document (id int PRIMARY KEY, body text);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON document
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('document', 'id');
INSERT INTO document SELECT 1, string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i;
UPDATE document SET id = 1;
SELECT payload ->> 'op' AS op, length(payload -> 'new' ->> 'body') AS new, length(payload -> 'old' ->> 'body') AS old
FROM durable_event.outbox WHERE event_type = 'document' ORDER BY id;
DROP TABLE document;
-- names are read as SQL reads them
CREATE TABLE camel (id int PRIMARY KEY, "tenantId" int, v text);
CREATE TRIGGER publish AFTER INSERT ON camel FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('camel', 'tenantId');
INSERT INTO camel VALUES (1, 7, 'a');
DROP TRIGGER publish ON camel;
CREATE TRIGGER publish AFTER INSERT ON camel FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('camel', '"tenantId"', 'columns="tenantId",ID');
INSERT INTO camel VALUES (1, 7, 'a');
SELECT key, payload FROM durable_event.outbox WHERE event_type = 'camel';
DROP TRIGGER publish ON camel;
CREATE TRIGGER publish AFTER INSERT ON camel FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('camel', 'id', 'columns=id,v,id');
INSERT INTO camel VALUES (2, 7, 'a');
DROP TRIGGER publish ON camel;
CREATE TRIGGER publish AFTER INSERT ON camel FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('camel', 'id,v,ID');
INSERT INTO camel VALUES (2, 7, 'a');
-- old and new row count together
DROP TRIGGER publish ON camel;
CREATE TRIGGER publish AFTER INSERT OR UPDATE ON camel FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('camel', 'id');
INSERT INTO camel VALUES (2, 7, repeat('x', 600000));
UPDATE camel SET "tenantId" = 8 WHERE id = 2;
DROP TABLE camel;
-- TRUNCATE
CREATE TABLE emptied (id int PRIMARY KEY);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON emptied
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('emptied', 'id');
CREATE TRIGGER publish_truncate AFTER TRUNCATE ON emptied
	FOR EACH STATEMENT EXECUTE FUNCTION durable_event.publish_row('emptied', 'id');
BEGIN;
INSERT INTO emptied VALUES (1), (2);
TRUNCATE emptied;
INSERT INTO emptied VALUES (1);
SELECT key, payload FROM durable_event.pending_events();
ROLLBACK;
DROP TABLE emptied;
