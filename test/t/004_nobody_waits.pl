# Nobody waits for others (G4), and yet the order is that of the commits (G3).
#
# Guards against: a watermark that a long transaction, a pinned snapshot, a prepared transaction or
# another database holds back; events skipped because a transaction with smaller ids committed
# later; order by transaction id or by the time of the call (schedules L1 and L2); a relay or proxy
# that keeps a snapshot while it waits for the network; a handler that delays other groups.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my ($node, $kafka, $handler) = rig(
	'main',
	settings => {
		'durable_event.topic_partitions' => 1
	});
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql($_, 'CREATE TABLE t (i int)') foreach 'postgres', 'other';

# What is in a topic: the payloads in order.
sub sent
{
	my ($event_type) = @_;
	return join ' ', map { json_decode($_->{payload}) } $kafka->consume($node->topic($event_type));
}

# "Promptly": long before any of the blockers ends, which is never.
sub flows
{
	my ($name) = @_;
	our $n;
	$node->publish('flow', 'k', ++$n);
	ok($node->flush(20), "$name: events of others are sent");
	return;
}

# ---- transactions that stay open

my %sessions;
my $session = sub {
	my ($name, $dbname) = @_;
	return $sessions{$name} //= $node->background_psql($dbname // 'postgres', on_error_stop => 0);
};

flows('nobody is there');
$session->('publisher')
  ->query_safe(q{BEGIN; SELECT durable_event.publish_event('late', 'k', '"published first"')});
flows('an open transaction that has published');
$session->('writer')->query_safe('BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t VALUES (2)');
flows('an idle writing transaction');
$session->('elsewhere', 'other')->query_safe('BEGIN; INSERT INTO t VALUES (1)');
flows('a writing transaction in another database');
$session->('reader')
  ->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM durable_event.outbox');
flows('a pinned snapshot that has read the outbox');
$node->safe_psql('postgres', q{BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'p'});
flows('a prepared transaction');

# Waits in a deferred trigger: in COMMIT, but before it has drawn ids.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE deferred (i int);
CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql
	AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION wait_at_commit();
SQL
$session->('lock')->query_safe('SELECT pg_advisory_lock(42)');
$session->('committer')->query_safe('BEGIN; INSERT INTO deferred VALUES (1)');
$session->('committer')->query_safe(q{SELECT durable_event.publish_event('late', 'k', '"waited in a trigger"')});
$session->('committer')->query_until(qr/committing/, "\\echo committing\nCOMMIT;\n");
$node->wait_query(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'},
	'the COMMIT to wait for the lock', 1);
flows('a COMMIT that waits in a deferred trigger');
flows('all of them at once');

is(sent('late'), '', 'what is not committed is not sent');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_prepared_xacts}), '1', 'the blockers are still there');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'}),
	'4', 'all of them');

$session->('lock')->query_safe('SELECT pg_advisory_unlock(42)');
$session->('committer')->query_safe('SELECT 1');
$session->('publisher')->query_safe('COMMIT');
ok($node->flush, 'the late ones are sent when they commit');
is(sent('late'), 'waited in a trigger published first', 'in the order of their commits');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'p'});
$_->quit foreach values %sessions;
%sessions = ();

# ---- ids that are drawn and not decided: here the horizon has to wait, or they are lost

# A is committed on disk and waits for a standby that does not exist; B need not.
$node->reconfigure('synchronous_standby_names' => 'nobody');
wait_until(sub { $node->safe_psql('postgres', 'SHOW synchronous_standby_names') eq 'nobody' }, 'reload');
$session->('a')->query_until(
	qr/committing/,
	q{\echo committing
SELECT durable_event.publish_event('undecided', 'k', '"a"');
});
$node->wait_query(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'},
	'A to wait for the standby', 1);
$node->safe_psql('postgres',
	q{SET synchronous_commit = local; SELECT durable_event.publish_event('undecided', 'k', '"b"')});
ok(!$node->flush(1), 'B is not sent while A, which comes before it, is undecided');
is(sent('undecided'), '', 'really not');
$node->reconfigure('synchronous_standby_names' => '');
ok($node->flush, 'when A is decided, both are sent');
is(sent('undecided'), 'a b', 'and A is neither skipped nor overtaken');
$session->('a')->quit;
%sessions = ();

# ---- L1 and L2: the order of conflicting transactions is that of their commits

$node->safe_psql('postgres', 'CREATE TABLE entity (id int PRIMARY KEY, version int); INSERT INTO entity VALUES (1, 0)');
my %steps = (
	begin => 'BEGIN',
	xid => 'INSERT INTO t VALUES (0)',
	update => 'UPDATE entity SET version = version + 1 WHERE id = 1',
	commit => 'COMMIT');
foreach my $schedule (
	# A has the smaller transaction id
	[ 'L1', 'a begin', 'a xid', 'b begin', 'b update', 'b publish', 'b commit', 'a update', 'a publish', 'a commit' ],
	# A publishes before it has the row's lock
	[ 'L2', 'a begin', 'a publish', 'b begin', 'b update', 'b publish', 'b commit', 'a update', 'a commit' ],
	# the same, with A waiting for the lock
	[ 'L2_waiting', 'a begin', 'a publish', 'b begin', 'b update', 'a wait', 'b publish', 'b commit', 'a commit' ])
{
	my ($name, @schedule) = @$schedule;
	foreach (@schedule)
	{
		my ($who, $step) = split / /;
		if ($step eq 'wait')
		{
			$session->($who)->query_until(qr/waiting/, "\\echo waiting\n$steps{update};\n");
			$node->wait_query(
				q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'},
				'A to wait for the row', 1);
			next;
		}
		$session->($who)->query_safe($steps{$step}
			  // qq{SELECT durable_event.publish_event('$name', '1', to_jsonb('$who'::text))});
		# an open transaction in between does not keep what is committed
		ok($node->flush(20), "$name: sent after B's commit")
		  if $_ eq 'b commit';
	}
	ok($node->flush, "$name: all is sent");
	is(sent($name), 'b a', "$name: B changed the entity first, so its event comes first");
}
$_->quit foreach values %sessions;
%sessions = ();

# ---- handlers

$handler->control({ path => '/hung', hang => 1 });
$node->publish('delivered', 'k', 0);
ok($node->flush, 'the topic is there');
$node->create_group(
	$_,
	event_types => ['delivered'],
	handler_url => $handler->url("/$_"),
	timeout => '10 min') foreach qw(hung fine);
$node->wait_group_state($_, 'running') foreach qw(hung fine);
$node->publish('delivered', 'k', $_) foreach 1 .. 5;
$handler->wait_for_events(6, path => '/fine', acknowledged => 1);
pass('a group gets its events while the handler of another hangs');
$node->wait_query(q{SELECT in_flight > 0 FROM durable_event.stat_group WHERE group_name = 'hung'},
	'the request that hangs');
$node->publish('delivered', 'k', $_) foreach 6 .. 10;
$handler->wait_for_events(11, path => '/fine', acknowledged => 1);
pass('and later ones');
flows('a handler hangs');
is($handler->stats->{paths}{'/hung'}, 1, 'one request hangs still');
$node->wait_query(
	q{SELECT count(*), count(backend_xmin), count(backend_xid), count(xact_start)
		FROM pg_stat_activity WHERE backend_type IN ('durable_event relay', 'durable_event proxy')},
	'relay and proxy to hold no transaction or snapshot', '2|0|0|0');
pass('meanwhile neither relay nor proxy has a transaction or snapshot');
is( $node->safe_psql(
		'postgres',
		q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE a.backend_type LIKE 'durable_event%' AND l.locktype <> 'virtualxid'}),
	'0', 'or a lock');
$handler->clear;

# ---- an event that comes alone waits for no others

ok($node->flush, 'nothing is on its way');
$node->configure('durable_event.relay_linger' => '10s');
my $relay = 'SELECT pid FROM durable_event.stat_relay';
my $former = $node->safe_psql('postgres', $relay);
$node->safe_psql('postgres', "SELECT pg_reload_conf(), pg_terminate_backend($former)");
$node->wait_query("SELECT state = 'running' AND pid <> $former FROM durable_event.stat_relay",
	'another relay');
$node->publish('delivered', 'k', 11);
ok($node->flush(8), 'relay_linger does not delay an event that comes alone');
$node->publish('delivered', 'k', 12);
ok(!$node->flush(1), 'one right behind it waits for more');
$node->reconfigure('durable_event.relay_linger' => '1ms');
ok($node->flush(8), 'not longer than the setting says now');

$node->stop('fast');
done_testing();
