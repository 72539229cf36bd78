# Whose events these are, who may send them, and what check() says when nothing is sent.
#
# Guards against: a copy of a database or of a server that publishes its original's events again
# or joins its groups, events sent without or under the wrong source, a pause that a restart
# forgets, a flush() that promises too much or hangs, and mistakes of newcomers that check() does
# not name.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my $kafka = DurableEvent::Kafka->shared;
my $prefix = test_prefix();
my $topic = "${prefix}e";
my $node = DurableEvent::Node->create(
	'main',
	kafka => $kafka,
	source => '',
	databases => 'postgres, app, "App Copy"',
	settings => { 'durable_event.proxy' => 'primary' });

# What check() says of one thing: "status: hint".
sub check
{
	my ($server, $name, $dbname) = @_;
	return $server->safe_psql($dbname // 'postgres',
		"SELECT status || ': ' || coalesce(hint, '') FROM durable_event.check() WHERE check_name = '$name'"
	);
}

# Keys of all records, with their sources, in order of their ids.
sub keys_sent
{
	return join ' ', map { "$_->{key}:$_->{headers}{ce_source}" }
	  sort { $a->{headers}{ce_sequence} cmp $b->{headers}{ce_sequence} } $kafka->consume($topic);
}

# ---- no source

$node->wait_relay_state('unconfigured');
$node->publish('e', 'before', {});
ok(!$node->flush(1), 'flush() is false while nothing can be sent');
is(keys_sent(), '', 'without a source nothing is sent');
like(check($node, 'source'), qr/^error: Set durable_event\.source /, 'check: source is unset');
like(check($node, 'relay'), qr/^error: Set durable_event\.source /, 'check: so the relay waits');
like($node->log_since(0), qr/relay sends nothing until durable_event\.source is set/,
	'the log says so');

$node->reconfigure('durable_event.source' => 'urn:one');
$node->wait_relay_state('running');
ok($node->flush, 'flush() after the source was set');
is(keys_sent(), 'before:urn:one', 'what was published before is sent, under the source');
like(check($node, $_), qr/^ok: $/, "check: $_ is ok now")
  foreach 'preloaded', 'source', 'bootstrap_servers', 'database listed', 'relay', 'proxy',
  'worker slots', 'wal_level', 'publications', 'descriptors';
is( $node->safe_psql('postgres',
		q{SELECT count(*) FROM durable_event.check() WHERE (status = 'ok') <> (hint IS NULL)}),
	'0', 'check: each mistake has a hint, and nothing else has');

# ---- another source than the stored one

my $position = $node->log_position;
$node->reconfigure('durable_event.source' => 'urn:two');
$node->wait_relay_state('source mismatch');
$node->publish('e', 'other', {});
ok(!$node->flush(1), 'with another source nothing is sent');
is(keys_sent(), 'before:urn:one', 'really nothing');
like(check($node, 'relay'), qr/^error: .*durable_event\.adopt\(\)/, 'check: names adopt()');
like($node->log_since($position), qr/holds the events of another source.*urn:two/s,
	'the log names it, too');

$node->restart;
$node->wait_relay_state('source mismatch');
is(keys_sent(), 'before:urn:one', 'nor after a restart');
is($node->safe_psql('postgres', 'SELECT durable_event.adopt()'), 'urn:two',
	'adopt() returns the source');
$node->wait_relay_state('running');
ok($node->flush, 'flush() after adopt()');
is(keys_sent(), 'before:urn:one other:urn:two', 'and the relay goes on under the new source');

# ---- paused

$node->safe_psql('postgres', 'SELECT durable_event.pause_relay()');
$node->wait_relay_state('paused');
$node->publish('e', 'paused', {});
ok(!$node->flush(1), 'flush() is false while the relay is paused');
like(check($node, 'relay'), qr/^warning: Call durable_event\.resume_relay\(\)/,
	'check: names resume_relay()');
$node->restart;
$node->wait_relay_state('paused');
ok(!$node->flush(0), 'a pause survives a restart');
is(keys_sent(), 'before:urn:one other:urn:two', 'nothing is sent');

my $flush = $node->background_psql('postgres', timeout => 60);
$flush->query_until(qr/flushing/, "\\echo flushing\nSELECT 'flush ' || durable_event.flush('1 min');\n");
$node->wait_query(
	q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%flush(''1 min'')%'
		AND wait_event_type = 'Extension' AND pid <> pg_backend_pid()},
	'flush() to wait', 1);
$node->safe_psql('postgres', 'SELECT durable_event.resume_relay()');
like($flush->query_until(qr/flush t/, "\\echo\n"), qr/flush true/,
	'flush() returns when the relay is resumed and has sent');
$flush->quit;
is(keys_sent(), 'before:urn:one other:urn:two paused:urn:two', 'after resume_relay()');

# ---- another source, and a pause, while the configuration cannot be read

my $locker = $node->background_psql('postgres');
my %changes = (
	relay_state => sub { $node->reconfigure('durable_event.source' => 'urn:three') },
	event_type => sub { $node->safe_psql('postgres', 'SELECT durable_event.pause_relay()') });
foreach my $table (sort keys %changes)
{
	my $position = $node->log_position;
	my $before = keys_sent();
	$locker->query_safe("BEGIN; LOCK TABLE durable_event.$table");
	$changes{$table}->();
	# the relay tries for seconds before it says so
	wait_until(sub { $node->log_since($position) =~ /relay could not read its configuration/ },
		'the relay to find the table locked');
	$node->publish('e', 'unsure', {});
	ok(!$node->flush(1), 'nothing is sent before the relay knows that it may');
	$locker->query_safe('ROLLBACK');
	$node->wait_query(q{SELECT state IN ('source mismatch', 'paused') FROM durable_event.stat_relay},
		'the relay to know', 't');
	is(keys_sent(), $before, 'really nothing');
	$node->reconfigure('durable_event.source' => 'urn:two');
	$node->safe_psql('postgres', 'SELECT durable_event.resume_relay()');
	$node->wait_relay_state('running');
	ok($node->flush, 'it goes on then');
}
$locker->quit;

# ---- flush()

ok($node->flush(0), 'flush() with nothing to wait for is true at once');
is($node->safe_psql('postgres', 'SELECT durable_event.flush(NULL) IS NULL'), 't', 'flush(NULL)');
$node->safe_psql('postgres', 'CREATE DATABASE unlisted');
$node->safe_psql('unlisted', 'CREATE EXTENSION durable_event');
my ($result, $out, $warning) =
  $node->psql('unlisted', q{SELECT durable_event.publish_event('e', 'unlisted', '{}')});
is($result, 0, 'events of an unlisted database are kept');
like($warning, qr/WARNING: .*HINT: .*durable_event\.databases/s, 'with a warning');
ok(!$node->flush(1, 'unlisted'), 'and not sent');
is(check($node, 'database listed', 'unlisted'),
	'error: Add unlisted to durable_event.databases in postgresql.conf and reload.',
	'check: database is not listed');

# ---- a copy of a database in the same server

$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', 'CREATE EXTENSION durable_event');
$node->wait_relay_state('running', 'app');
$node->publish('e', 'app1', {}, undef, 'app');
ok($node->flush(undef, 'app'), 'a listed database made later is served');
$node->safe_psql('app', 'SELECT durable_event.pause_relay()');
$node->publish('e', 'app2', {}, undef, 'app');
$node->safe_psql('postgres', 'CREATE DATABASE "App Copy" TEMPLATE app');
$node->safe_psql('app', 'SELECT durable_event.resume_relay()');
$node->safe_psql('App Copy', 'SELECT durable_event.resume_relay()');
ok($node->flush(undef, 'app'), 'the template goes on');
$node->wait_relay_state('source mismatch', 'App Copy');
$node->publish('e', 'copy1', {}, undef, 'App Copy');
ok(!$node->flush(1, 'App Copy'), 'the copy has the same source and yet sends nothing');
my %sent = map { ($_ => 1) } split / /, keys_sent();
is_deeply([ grep { /app|copy/ } sort keys %sent ], [ 'app1:urn:two', 'app2:urn:two' ],
	'the events of the template were sent once, by the template');
like(check($node, 'relay', 'App Copy'), qr/^error: .*adopt/, 'check: names adopt() in the copy');
is($node->safe_psql('App Copy', 'SELECT durable_event.adopt()'), 'urn:two', 'adopt() in the copy');
ok($node->flush(undef, 'App Copy'), 'then the copy sends');
is(scalar(grep { $_->{key} eq 'app1' } $kafka->consume($topic)),
	1, 'but nothing that was acknowledged before it was made');
is(scalar(grep { $_->{key} eq 'copy1' } $kafka->consume($topic)), 1, 'and its own events');

# ---- a copy of the server: a staging system made of a backup of production

my $handler = DurableEvent::Handler->new;
$node->create_group('g', event_types => ['e'], handler_url => $handler->url);
$node->wait_group_state('g', 'running');
$node->safe_psql('postgres', 'SELECT durable_event.pause_relay()');
$node->wait_relay_state('paused');
$node->publish('e', 'production1', {});
$node->backup('staging');
$node->safe_psql('postgres', 'SELECT durable_event.resume_relay()');
ok($node->flush, 'production sends');

my $staging = DurableEvent::Node->new('staging');
$staging->{de_prefix} = $prefix;
$staging->init_from_backup($node, 'staging');
$staging->configure('durable_event.source' => 'urn:staging');
$staging->start;
$staging->safe_psql('postgres', 'SELECT durable_event.resume_relay()');
$staging->wait_relay_state('source mismatch');
$staging->publish('e', 'staging1', {});
ok(!$staging->flush(1), 'a copy of the server with a source of its own sends nothing');
is(scalar(grep { $_->{key} =~ /^(production|staging)1/ } $kafka->consume($topic)),
	1, 'not even what the original had not sent yet');
$staging->wait_for_worker('proxy');
is($staging->safe_psql('postgres', 'SELECT count(*) FROM durable_event.stat_group'),
	'0', 'its proxy runs no group');
is($kafka->groups->{ $node->group_id('g') }{members}, 1, "nor joins the original's");
is($staging->safe_psql('postgres', 'SELECT durable_event.adopt()'), 'urn:staging', 'adopt() there');
ok($staging->flush, 'makes it send');
my @staging = grep { $_->{headers}{ce_source} eq 'urn:staging' } $kafka->consume($topic);
is(join(' ', map { $_->{key} } sort { $a->{headers}{ce_sequence} cmp $b->{headers}{ce_sequence} } @staging),
	'production1 staging1', 'what was not sent when the copy was made, under its own source');
$staging->wait_group_state('g', 'running');
pass('and run its groups');
$staging->stop('fast');

# ---- check() on a server where all is wrong

$node->drop_group('g');
$node->stop('fast');
my $wrong = DurableEvent::Node->create(
	'wrong',
	source => '',
	settings => { 'shared_preload_libraries' => '', 'wal_level' => 'minimal', 'max_wal_senders' => 0 });
like(check($wrong, 'preloaded'), qr/^error: Add durable_event to shared_preload_libraries .*restart/,
	'check: not preloaded');
($result, $out, my $error) = $wrong->psql('postgres', q{SELECT durable_event.publish_event('e', 'k', '{}')});
like($error, qr/ERROR: .*shared_preload_libraries/s, 'publish_event says it, too');

$wrong->configure(
	'shared_preload_libraries' => 'durable_event',
	'durable_event.databases' => 'postgres, a, b',
	'max_worker_processes' => 3);
$wrong->restart;
$wrong->create_group('g', event_types => ['e'], handler_url => 'http://127.0.0.1:1/');
like(check($wrong, 'source'), qr/^error: Set durable_event\.source/, 'check: source');
like(check($wrong, 'bootstrap_servers'), qr/^error: Set durable_event\.bootstrap_servers .*broker/,
	'check: bootstrap_servers');
like(check($wrong, 'worker slots'), qr/^error: Increase max_worker_processes/, 'check: worker slots');
like(check($wrong, 'wal_level'), qr/^warning: Set wal_level to replica/, 'check: wal_level');
like(check($wrong, 'proxy'), qr/^warning: Set durable_event\.proxy/, 'check: groups, and no proxy');
$wrong->safe_psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES');
like(check($wrong, 'publications'), qr/^warning: Publish the tables/, 'check: publications');
$wrong->wait_relay_state('unconfigured');
$wrong->reconfigure('durable_event.relay' => 'off');
$wrong->wait_relay_state('stopped');
like(check($wrong, 'relay'), qr/^warning: Set durable_event\.relay to on/, 'check: relay is off');

# nobody listens there
$wrong->reconfigure(
	'durable_event.relay' => 'on',
	'durable_event.source' => 'urn:wrong',
	'durable_event.bootstrap_servers' => '127.0.0.1:1');
$wrong->wait_relay_state('connecting');
$wrong->wait_query(
	q{SELECT count(*) FROM durable_event.check() WHERE check_name = 'relay' AND status = 'error'
		AND detail ILIKE '%refused%' AND hint LIKE '%(127.0.0.1:1) are running%'},
	'check() to say that the broker does not answer', 1);
pass('check: broker unreachable');
is($wrong->safe_psql('postgres', 'SELECT state FROM durable_event.stat_relay'), 'connecting',
	'stat_relay: connecting');
$wrong->stop('fast');
done_testing();
