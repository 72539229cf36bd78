# An owner of the database who is no superuser gains nothing by what he prepares in it: before
# CREATE EXTENSION, after it, and while workers run, which are superusers.
#
# Guards against: functions, operators, casts, schemas, tables, triggers, rules and settings of his
# that the extension's expressions, functions or workers would run or heed.
#
# Each thing of his writes down who ran it.

use strict;
use warnings;

use DurableEvent::Handler;
use DurableEvent::Kafka;
use DurableEvent::Node;
use DurableEvent::Util qw(wait_until);
use Test::More;

my $kafka = DurableEvent::Kafka->shared;
my $handler = DurableEvent::Handler->new;
my $node = DurableEvent::Node->create(
	'main',
	kafka => $kafka,
	databases => 'app, lent',
	extension => 0,
	settings => { 'durable_event.proxy' => 'primary' });

$node->safe_psql(
	'postgres', q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE lender LOGIN SUPERUSER;
	CREATE DATABASE app OWNER mallory;
	CREATE DATABASE lent;
});

# Settings of the database would be in the way of who uses psql, too.
my $own = '-c exit_on_error=off -c default_transaction_read_only=off -c statement_timeout=0'
  . ' -c lock_timeout=0 -c idle_in_transaction_session_timeout=0'
  . ' -c standard_conforming_strings=on';

sub session
{
	my ($user, $options, $sql) = @_;
	local $ENV{PGOPTIONS} = "$own $options";
	my ($ret, $out, $err) = $node->psql('app', $sql, extra_params => [ '-U', $user ]);
	return $ret == 0 ? $out : "ERROR $err";
}

my $superuser = $node->safe_psql('postgres', 'SELECT current_user');

# What a superuser does who looks after his search_path, what one does who does not (so that his
# statement must have nothing but names with a schema), and what mallory tries.
sub careful { return session($superuser, '-c role=none -c search_path=pg_catalog', $_[0]); }
sub careless { return session($superuser, '-c role=none', $_[0]); }
sub mallory { return session('mallory', '', $_[0]); }

sub gained_nothing
{
	my ($when) = @_;
	is(careful(q{SELECT string_agg(DISTINCT ran_as || ' ran ' || what, ', ') FROM loot.ran WHERE ran_as <> 'mallory'}),
		'', "$when: nothing of his ran as anybody else");
	is(careful(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}),
		'f', "$when: he is no superuser");
	return;
}

sub runs
{
	my ($when, $key) = @_;
	is(careless("SELECT durable_event.publish_event('e', '$key', '{}') IS NOT NULL"),
		't', "$when: events can be published");
	is(careless(q{SELECT durable_event.flush('60 s')}), 't', "$when: they reach Kafka");
	return;
}

# ---- prepared before CREATE EXTENSION

my $note = q{BEGIN PERFORM loot.note('%s'); RETURN %s; END};
my $prepare = q{
	CREATE SCHEMA loot;
	CREATE TABLE loot.ran (ran_as text, what text);
	GRANT USAGE ON SCHEMA loot TO PUBLIC;
	GRANT ALL ON loot.ran TO PUBLIC;
	CREATE FUNCTION loot.note(what text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO loot.ran VALUES (current_user, what);
		ALTER ROLE mallory SUPERUSER;
	EXCEPTION WHEN OTHERS THEN
		NULL;
	END $$;
	CREATE FUNCTION loot.trigger() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM loot.note('trigger of ' || TG_TABLE_NAME);
		RETURN NEW;
	END $$;
};
# exact types, where the server's own functions and operators are polymorphic or need a coercion
foreach (
	[ 'cardinality(text[])', 'int', '1' ],
	[ 'array_position(text[], text)', 'int', 'NULL' ],
	[ 'octet_length(text)', 'int', '1' ],
	[ 'jsonb_typeof(jsonb)', 'text', q{'object'} ],
	[ 'jsonb_each(jsonb)', 'SETOF record', '' ],
	[ 'unnest(text[])', 'SETOF text', '' ],
	[ 'ceil(numeric)', 'numeric', '1' ],
	[ 'current_database()', 'name', q{'app'} ],
	[ 'format(text, name)', 'text', q{'SELECT 1'} ],
	[ 'format(text, text)', 'text', q{'SELECT 1'} ],
	[ 'pg_extension_config_dump(text, text)', 'void', '' ])
{
	my ($function, $type, $result) = @$_;
	my $body = sprintf $note, $function, $result;
	$body =~ s/RETURN ;/RETURN;/;
	$prepare .= "CREATE FUNCTION public.$function RETURNS $type LANGUAGE plpgsql AS \$\$ $body \$\$;\n";
}
foreach (
	[ '=', 'text', 'text', 'boolean' ],
	[ '<>', 'text', 'text', 'boolean' ],
	[ '<>', 'text', 'unknown', 'boolean' ],
	[ '~', 'text', 'text', 'boolean' ],
	[ '>', 'int', 'int', 'boolean' ],
	[ '>=', 'int', 'int', 'boolean' ],
	[ '<=', 'interval', 'interval', 'boolean' ],
	[ '>=', 'interval', 'interval', 'boolean' ],
	[ '=', 'name', 'text', 'boolean' ],
	[ '=', 'oid', 'oid', 'boolean' ],
	[ '<>', 'oid', 'oid', 'boolean' ],
	[ '+', 'int', 'int', 'int' ],
	[ '||', 'text', 'text', 'text' ],
	[ '||', 'name', 'text', 'text' ],
	[ '||', 'text', 'int', 'text' ])
{
	my ($operator, $left, $right, $type) = @$_;
	my $result = $type eq 'boolean' ? 'true' : $type eq 'int' ? '1' : q{'outbox_0'};
	my $body = sprintf $note, "$left $operator $right", $result;
	# functions cannot be written for the pseudo type
	next if $right eq 'unknown';
	my $name = "op_" . join '_', unpack('H*', $operator), $left, $right;
	$prepare .= "CREATE FUNCTION loot.$name($left, $right) RETURNS $type LANGUAGE plpgsql AS \$\$ $body \$\$;
		CREATE OPERATOR public.$operator (FUNCTION = loot.$name, LEFTARG = $left, RIGHTARG = $right);\n";
}
$prepare .= q{
	-- a type that looks like a text to whoever is not exact, with a cast of his
	CREATE TYPE loot.word AS (w text);
	CREATE FUNCTION loot.word_text(loot.word) RETURNS text LANGUAGE plpgsql AS
		$$ BEGIN PERFORM loot.note('cast'); RETURN 'x'; END $$;
	CREATE CAST (loot.word AS text) WITH FUNCTION loot.word_text(loot.word) AS IMPLICIT;
	ALTER DATABASE app SET search_path = public, loot, durable_event, pg_catalog;
};
is(mallory($prepare), '', 'functions, operators, a cast, a search_path');
like(mallory('CREATE EVENT TRIGGER evil ON ddl_command_end EXECUTE FUNCTION loot.trigger()'),
	qr/permission denied/, 'event triggers the server does not let him make');

mallory(q{
	CREATE SCHEMA durable_event;
	CREATE FUNCTION durable_event.cardinality(text[]) RETURNS int LANGUAGE plpgsql AS
		$$ BEGIN PERFORM loot.note('cardinality'); RETURN 1; END $$});
like(careless('CREATE EXTENSION durable_event'),
	qr/schema "durable_event" exists already/, 'the extension goes into no schema of his');
is(careless('DROP SCHEMA durable_event CASCADE; CREATE EXTENSION durable_event'),
	'', 'with that gone it can be created');
gained_nothing('created');

# ---- all that is evaluated in configuration, and by workers

my $topic = $node->topic('e');
my $configure = qq{
	INSERT INTO durable_event.event_type (name, topic, partitions, topic_config)
		VALUES ('e', '$topic', 2, '{"retention.ms": "86400000"}');
	INSERT INTO durable_event.consumer_group (name, event_types, topics, handler_url, handler_headers)
		VALUES ('g', '{e,f}', '{}', '} . $handler->url('/g') . qq{', '{"x-a": "b"}');
	UPDATE durable_event.consumer_group SET backoff_max = '2 min', linger = '6 ms';
};
is(careless($configure), '', 'configuration is written');
runs('configured', 'a');
ok(scalar $handler->wait_for_events(1, path => '/g'), 'and a handler');
is(careless('SELECT durable_event.adopt()'), 'urn:test', 'adopt()');
unlike(careless('SELECT * FROM durable_event.check()'), qr/ERROR/, 'check()');
is(careless('SELECT durable_event.pause_relay(), durable_event.resume_relay()'), '|', 'pause, resume');
is(careless('SELECT count(*) FROM durable_event.outbox'), '1', 'the view');
gained_nothing('configured');

# ---- settings of the database

foreach my $setting (
	'role = mallory',
	'session_authorization = mallory',
	'exit_on_error = on',
	'default_transaction_read_only = on',
	'default_transaction_isolation = serializable',
	'default_transaction_deferrable = on',
	'statement_timeout = 1',
	'lock_timeout = 1',
	'idle_in_transaction_session_timeout = 1',
	'row_security = on',
	'synchronous_commit = remote_apply',
	'transform_null_equals = on',
	'array_nulls = off',
	'standard_conforming_strings = off',
	'DateStyle = German',
	'IntervalStyle = sql_standard',
	'TimeZone = "Asia/Kathmandu"',
	'client_encoding = LATIN1',
	'extra_float_digits = -15',
	'bytea_output = escape',
	'force_parallel_mode = on',
	'enable_indexscan = off',
	'default_table_access_method = heap',
	'check_function_bodies = off',
	'work_mem = 64')
{
	my ($ret, $out, $err) =
	  $node->psql('postgres', "ALTER DATABASE app SET $setting", extra_params => [ '-U', 'mallory' ]);
	# a setting may have gone or changed its name in a later version
	note "$setting: $err" if $ret != 0;
}
foreach my $kind (qw(relay proxy))
{
	my $pid = $node->worker_pid($kind, 'app');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$node->wait_for_worker($kind, $pid, 'app');
}
runs('settings', 'b');
ok(scalar $handler->wait_for_events(2, path => '/g'), 'settings: a handler gets them');
is(careful('SELECT state FROM durable_event.stat_group'), 'running', 'settings: the group runs');
gained_nothing('settings');

# ---- what he tries on the extension

foreach my $sql (
	'CREATE TRIGGER t BEFORE UPDATE ON durable_event.relay_state FOR EACH ROW EXECUTE FUNCTION loot.trigger()',
	'CREATE RULE r AS ON UPDATE TO durable_event.relay_state DO ALSO SELECT loot.note($$rule$$)',
	'CREATE POLICY p ON durable_event.relay_state USING (loot.note($$policy$$) IS NULL)',
	'CREATE INDEX i ON durable_event.outbox_0 (loot.note(event_id::text))',
	'CREATE FUNCTION durable_event.f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$',
	'CREATE TABLE durable_event.t ()',
	'ALTER TABLE durable_event.event_type ADD CHECK (loot.note(name) IS NULL)',
	'ALTER TABLE durable_event.consumer_group ALTER name SET DEFAULT loot.note($$default$$)',
	'ALTER TABLE durable_event.outbox_0 OWNER TO mallory',
	'ALTER FUNCTION durable_event.check() RESET ALL',
	'ALTER SCHEMA durable_event RENAME TO mine',
	'ALTER SCHEMA durable_event OWNER TO mallory',
	'ALTER EXTENSION durable_event DROP TABLE durable_event.relay_state',
	'DROP EXTENSION durable_event',
	'DROP SCHEMA durable_event CASCADE',
	'DROP OWNED BY postgres CASCADE',
	'TRUNCATE durable_event.outbox_0',
	'SELECT durable_event.publish_event($$e$$, $$k$$, $${}$$)',
	'SELECT durable_event.pause_relay()',
	'SELECT * FROM durable_event.outbox',
	'SELECT * FROM durable_event.consumer_group',
	'SELECT * FROM durable_event.stat_relay',
	'CREATE PUBLICATION p FOR ALL TABLES',
	'CREATE PUBLICATION p FOR TABLE durable_event.outbox_0',
	'BEGIN; LOCK TABLE durable_event.outbox_0',
	'GRANT ALL ON SCHEMA durable_event TO mallory; CREATE TABLE durable_event.t ()',
	'SET durable_event.topic_prefix = $$other.$$',
	'ALTER DATABASE app SET durable_event.topic_prefix = $$other.$$')
{
	like(mallory($sql), qr/^ERROR .*(permission denied|must be (owner|superuser)|must be able)/s,
		"refused: $sql");
}
# what an owner of a database may do runs his functions as himself
mallory('VACUUM; ANALYZE; REINDEX DATABASE app');
runs('tried', 'c');
gained_nothing('tried');

# ---- a schema of his under the name, once a superuser has renamed the true one

is(careful('ALTER SCHEMA durable_event RENAME TO elsewhere'), '', 'the schema is renamed');
is( session('mallory', '-c search_path=pg_catalog', q{
	CREATE SCHEMA durable_event;
	GRANT ALL ON SCHEMA durable_event TO PUBLIC;
	CREATE TABLE durable_event.relay_state (singleton boolean, source text, database oid, paused boolean);
	INSERT INTO durable_event.relay_state VALUES (true, NULL, NULL, false);
	CREATE TABLE durable_event.event_type (name text, topic text, partitions int, replication_factor int, topic_config jsonb);
	CREATE TABLE durable_event.consumer_group_rows AS SELECT 1 AS i;
	CREATE VIEW durable_event.consumer_group AS SELECT loot.note('view')::text AS name;
	CREATE SEQUENCE durable_event.relay_progress MINVALUE 0;
	CREATE TRIGGER t BEFORE UPDATE ON durable_event.relay_state FOR EACH ROW EXECUTE FUNCTION loot.trigger();
	CREATE RULE r AS ON UPDATE TO durable_event.event_type DO ALSO SELECT loot.note('rule');
	DO $$ BEGIN
		FOR i IN 0 .. 7 LOOP
			EXECUTE format('CREATE TABLE durable_event.outbox_%s (id bigint, event_id uuid, created_at timestamptz,
				event_type bytea, key bytea, content_type bytea, headers bytea, payload bytea)', i::text);
			EXECUTE format('CREATE INDEX outbox_%s_id_idx ON durable_event.outbox_%s (id)', i::text, i::text);
			EXECUTE format('CREATE TRIGGER t BEFORE INSERT ON durable_event.outbox_%s FOR EACH ROW EXECUTE FUNCTION loot.trigger()', i::text);
		END LOOP;
	END $$;
	GRANT ALL ON ALL TABLES IN SCHEMA durable_event TO PUBLIC;
}), '', 'he makes another one in its place');
foreach my $kind (qw(relay proxy))
{
	my $pid = $node->worker_pid($kind, 'app');
	mallory('VACUUM');    # invalidations wake what remembers the tables
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$node->wait_for_worker($kind, $pid, 'app');
}
wait_until(sub { careful('SELECT state FROM elsewhere.stat_relay()') eq 'extension missing' },
	'the relay waits');
like(careless("SELECT elsewhere.publish_event('e', 'x', '{}')"),
	qr/was renamed to "elsewhere"/, 'publishing says what happened');
like(careless('SELECT elsewhere.pause_relay()'), qr/was renamed to "elsewhere"/, 'so does pause_relay()');
like(careless('SELECT elsewhere.adopt()'), qr/was renamed to "elsewhere"/, 'and adopt()');
like(careful(q{SELECT hint FROM elsewhere.check() WHERE status = 'error'}),
	qr/ALTER SCHEMA elsewhere RENAME TO durable_event/, 'and check()');
is(careful(q{SELECT count(*) FROM durable_event.outbox_0}), '0', 'nothing goes to his tables');
gained_nothing('renamed');
is(careful('DROP SCHEMA durable_event CASCADE; ALTER SCHEMA elsewhere RENAME TO durable_event'),
	'', 'the schema has its name again');
wait_until(sub { careful('SELECT state FROM durable_event.stat_relay') eq 'running' }, 'the relay runs');
runs('named again', 'd');

# ---- a table that a superuser gives away

is(careful('ALTER TABLE durable_event.relay_state OWNER TO mallory; GRANT USAGE ON SCHEMA durable_event TO mallory'),
	'', 'relay_state is given away');
is( mallory(q{
	CREATE TRIGGER t BEFORE UPDATE ON durable_event.relay_state FOR EACH ROW EXECUTE FUNCTION loot.trigger();
	ALTER TABLE durable_event.relay_state ENABLE ALWAYS TRIGGER t;
}), '', 'he has a trigger on it');
like(careless('SELECT durable_event.adopt()'), qr/belongs to role "mallory"/, 'it is not touched');
like(careless('SELECT durable_event.pause_relay()'), qr/belongs to role "mallory"/, 'nor by pause_relay()');
gained_nothing('given away');
is(careful('DROP TRIGGER t ON durable_event.relay_state; ALTER TABLE durable_event.relay_state OWNER TO CURRENT_USER'),
	'', 'and taken back');
wait_until(sub { careful('SELECT state FROM durable_event.stat_relay') eq 'running' }, 'the relay runs');
runs('taken back', 'e');

# ---- an index counts by what it is, not by its name

my $log = $node->log_position;
is( careful(q{
	DROP INDEX durable_event.outbox_0_id_idx;
	CREATE INDEX outbox_0_id_idx ON durable_event.outbox_0 (event_id);
	CREATE INDEX "descending" ON durable_event.outbox_0 (id DESC);
	CREATE INDEX partial ON durable_event.outbox_0 (id) WHERE id < 0;
	CREATE INDEX hashed ON durable_event.outbox_0 USING hash (id);
	CREATE INDEX wide ON durable_event.outbox_0 (event_id, id);
}), '', 'other indexes in place of the one on id');
is(careless("SELECT durable_event.publish_event('e', 'f', '{}') IS NOT NULL"), 't', 'publishing does not need it');
wait_until(sub { $node->log_since($log) =~ /table "outbox_0" has no valid index on column id/ },
	'the relay says what it lacks');
is(careful('CREATE INDEX by_any_name ON durable_event.outbox_0 (id)'), '', 'an index is made');
runs('with an index of another name', 'g');

# ---- workers do with no more than the rights of the extension's owner what runs code of tables

is( $node->psql(
		'lent', q{
	BEGIN;
	CREATE EXTENSION durable_event;
	CREATE TABLE ran (ran_as text, result text);
	CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		result text := 'changed';
	BEGIN
		BEGIN
			SET LOCAL ROLE postgres;
		EXCEPTION WHEN OTHERS THEN
			result := SQLSTATE;
		END;
		INSERT INTO public.ran VALUES (current_user, result);
		RETURN NEW;
	END $$;
	CREATE TRIGGER spy BEFORE UPDATE ON durable_event.relay_state FOR EACH ROW EXECUTE FUNCTION spy();
	COMMIT;
}, extra_params => [ '-U', 'lender' ]),
	0, 'an extension of another superuser, with a trigger');
$node->wait_relay_state('running', 'lent');
is($node->safe_psql('lent', 'SELECT DISTINCT * FROM ran'),
	'lender|42501', 'the relay stored the source as that one, in a restricted operation');
is($node->safe_psql('lent', q{SELECT source FROM durable_event.relay_state}),
	'urn:test', 'and it is stored');

gained_nothing('in the end');
my $lines = $node->log_since(0);
unlike($lines, qr/PANIC|terminated by signal (6|11)/, 'and no process crashed');

done_testing;
