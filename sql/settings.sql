-- Every setting as the server knows it.  .ci/check-docs compares docs/reference.md and README.md
-- with the expected output, so this is where a default, a range or a context is written down.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_settings;
RESET client_min_messages;
CREATE ROLE regress_settings;
CREATE TABLE settings AS
	SELECT name, vartype, unit, boot_val, min_val, max_val, enumvals, context
	FROM pg_settings WHERE name LIKE 'durable\_event.%';
GRANT SELECT ON settings TO regress_settings;
SET ROLE regress_settings;
SELECT replace(s.name, 'durable_event.', '') AS name, s.vartype AS type, s.unit, s.boot_val AS "default",
	s.min_val AS min, s.max_val AS max, array_to_string(s.enumvals, ' ') AS values, s.context,
	v.name IS NULL AS secret
FROM settings AS s LEFT JOIN pg_settings AS v ON v.name = s.name
ORDER BY s.name COLLATE "C";
RESET ROLE;
DROP TABLE settings;
DROP ROLE regress_settings;
