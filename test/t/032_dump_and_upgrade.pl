# The extension with its schema goes through pg_dump and pg_upgrade.
#
# Guards against: a dump that cannot be restored since the schema is there already, or lacks grants
# or configuration, or carries events; a server that cannot be upgraded, loses events by it, or
# gives out ids again.

use strict;
use warnings;

use DurableEvent::Node;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DurableEvent::Node->create(
	'old',
	bootstrap => '127.0.0.1:1',
	settings => { 'wal_level' => 'replica' });
my $dir = $node->basedir;

$node->safe_psql(
	'postgres', q{
	CREATE ROLE monitor;
	GRANT USAGE ON SCHEMA durable_event TO monitor;
	GRANT SELECT ON durable_event.outbox TO monitor;
	INSERT INTO durable_event.event_type (name, topic) VALUES ('e', 'the.topic');
	INSERT INTO durable_event.consumer_group (name, event_types) VALUES ('g', '{e}');
	CREATE TABLE entity (id int PRIMARY KEY);
	CREATE TRIGGER publish AFTER INSERT ON entity FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('e', 'id');
	INSERT INTO entity VALUES (1), (2);
});

# what a copy must have
sub check_copy
{
	my ($server, $dbname, $events, $how) = @_;
	is( $server->safe_psql($dbname, 'SELECT name, topic FROM durable_event.event_type; SELECT name FROM durable_event.consumer_group'),
		"e|the.topic\ng", "$how: configuration is there");
	is( $server->safe_psql($dbname, q{
			SELECT has_schema_privilege('monitor', 'durable_event', 'USAGE'),
				has_schema_privilege('monitor', 'durable_event', 'CREATE'),
				has_table_privilege('monitor', 'durable_event.outbox', 'SELECT')}),
		't|f|t', "$how: so are grants");
	is( $server->safe_psql($dbname, q{
			SELECT deptype FROM pg_depend WHERE classid = 'pg_namespace'::regclass
				AND objid = 'durable_event'::regnamespace AND refclassid = 'pg_extension'::regclass}),
		'e', "$how: the schema is a member");
	is($server->safe_psql($dbname, 'SELECT count(*) FROM durable_event.outbox'),
		$events, "$how: $events events");
	my $last = $server->safe_psql($dbname, 'SELECT coalesce(max(id), 0) FROM durable_event.outbox');
	$server->safe_psql($dbname, 'INSERT INTO entity SELECT max(id) + 1 FROM entity');
	is( $server->safe_psql($dbname, "SELECT count(*) FROM durable_event.outbox WHERE id > $last"),
		'1', "$how: triggers publish, ids go on");
	is( $server->safe_psql($dbname, q{SELECT status FROM durable_event.check() WHERE check_name = 'extension'}),
		'ok', "$how: check() finds the extension whole");
	return;
}

# ---- pg_dump

my $dump = "$dir/dump";
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ],
	'pg_restore into an empty database');
check_copy($node, 'restored', 0, 'restored');
command_ok(
	[
		'pg_restore', '--exit-on-error', '--clean', '--if-exists', '-d', $node->connstr('restored'),
		$dump
	],
	'pg_restore --clean over it');
check_copy($node, 'restored', 0, 'restored again');
is( $node->safe_psql('restored', q{
		DROP EXTENSION durable_event CASCADE;
		CREATE EXTENSION durable_event;
		SELECT count(*) FROM durable_event.event_type}),
	'0', 'dropped and created again');
$node->safe_psql('postgres', 'DROP DATABASE restored');

# ---- pg_upgrade, to the same version: what matters here is how objects are made anew

my $events = $node->safe_psql('postgres', 'SELECT count(*) FROM durable_event.outbox');
my $last = $node->safe_psql('postgres', 'SELECT max(id) FROM durable_event.outbox');
my $new = DurableEvent::Node->create(
	'new',
	bootstrap => '127.0.0.1:1',
	prefix => $node->{de_prefix},
	settings => { 'wal_level' => 'replica' },
	start => 0);
$node->stop;
my $bindir = $node->config_data('--bindir');
chdir $PostgreSQL::Test::Utils::tmp_check or die $!;
command_ok(
	[
		'pg_upgrade', '--no-sync', '-b', $bindir, '-B', $bindir, '-d', $node->data_dir, '-D',
		$new->data_dir, '-s', $new->host, '-p', $node->port, '-P', $new->port
	],
	'pg_upgrade');
$new->start;
check_copy($new, 'postgres', $events, 'upgraded');
is($new->safe_psql('postgres', 'SELECT max(id) > ' . $last . ' FROM durable_event.outbox'),
	't', 'upgraded: ids are above the former ones');
$new->stop;

done_testing;
