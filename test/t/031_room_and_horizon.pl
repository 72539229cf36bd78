# Limits keep out what they are for, and nothing else.
#
# Guards against: publishing refused as if the outbox were full, though all is delivered; an outbox
# that grows beyond its limit, though all is delivered, because nothing of it can be emptied; one
# that never empties because the clock was wrong for a while; databases that nobody listed taking
# the places of those that are; a worker that goes on in a place which is another database's by
# then; a commit that holds back all others and that no view names.

use strict;
use warnings;

use DurableEvent::Kafka;
use DurableEvent::Node;
use DurableEvent::Util qw(wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = DurableEvent::Kafka->shared;
my $node = DurableEvent::Node->create(
	'main',
	kafka => $kafka,
	databases => 'postgres, later',
	settings => { 'durable_event.max_databases' => 2, 'durable_event.retention' => '1h' });

# ---- max_outbox_size does not count what is delivered

# set when the relay runs already, so that it knows of it by the publishers only
$node->safe_psql('postgres', q{ALTER DATABASE postgres SET durable_event.max_outbox_size = '8MB'});
my $refused = 0;
for my $i (1 .. 20)
{
	my ($ret, $out, $err) = $node->psql(
		'postgres', qq{
		SELECT count(durable_event.publish_event('e', '$i', to_jsonb(s))) FROM (
			SELECT string_agg(md5((g * $i)::text), '') AS s FROM generate_series(1, 4000) AS g
			GROUP BY g % 4) AS x;
		SELECT durable_event.flush('60 s')});
	$refused++ if $ret != 0;
	note $err if $ret != 0;
}
is($refused, 0, '20 × 128 kB through an outbox of 8 MB, whose retention is an hour');
for my $i (1 .. 40)
{
	my ($ret, $out, $err) = $node->psql(
		'postgres', qq{
		SELECT count(durable_event.publish_event('e', '$i', to_jsonb(s))) FROM (
			SELECT string_agg(md5((g * $i)::text), '') AS s FROM generate_series(1, 40000) AS g
			GROUP BY g % 4) AS x;
		SELECT durable_event.flush('60 s')});
	$refused++ if $ret != 0;
	note $err if $ret != 0;
}
is($refused, 0, '40 × 1.3 MB, too');
$node->safe_psql('postgres', 'SELECT durable_event.pause_relay()');
my $error = '';
for my $i (1 .. 40)
{
	my ($ret, $out, $err) = $node->psql(
		'postgres', qq{
		SELECT count(durable_event.publish_event('e', '$i', to_jsonb(s))) FROM (
			SELECT string_agg(md5((g * $i)::text), '') AS s FROM generate_series(1, 40000) AS g
			GROUP BY g % 4) AS x});
	$error = $err;
	last if $ret != 0;
}
like($error, qr/outbox of durable_event is full/, 'what is not sent counts');
$node->safe_psql('postgres', 'SELECT durable_event.resume_relay()');
wait_until(
	sub { ($node->psql('postgres', q{SELECT durable_event.publish_event('e', 'k', '{}')}))[0] == 0 },
	'publishing goes on once it is sent');
ok($node->flush, 'and reaches Kafka');

# ---- but it does count what cannot be emptied, delivered or not

# small segments, so that the current one alone would take what comes when the others are full
$node->reconfigure('durable_event.segment_size' => '1MB');
$node->safe_psql('postgres', q{ALTER DATABASE postgres SET durable_event.max_outbox_size = '32MB'});

sub outbox_mb
{
	return $node->safe_psql('postgres', <<'SQL');
SELECT sum(pg_relation_size(oid) + pg_relation_size(reltoastrelid)) / 1024 / 1024 FROM pg_class
WHERE oid::regclass::text ~ '^durable_event\.outbox_\d$'
SQL
}

# 1.3 MB, published and delivered; the error if it was refused
sub deliver
{
	my (undef, undef, $refused) = $node->psql(
		'postgres', q{
		SELECT count(durable_event.publish_event('e', 'k', to_jsonb(s))) FROM (
			SELECT string_agg(md5(g::text), '') AS s FROM generate_series(1, 40000) AS g
			GROUP BY g % 4) AS x;
		SELECT durable_event.flush('60 s')});
	return $refused;
}

# publishes and delivers more than twice of what fits, until it is refused
sub is_bounded
{
	my ($name) = @_;
	my $refused = '';
	for (my $i = 0; $i < 60 && $refused eq ''; $i++)
	{
		$refused = deliver();
	}
	like($refused, qr/outbox of durable_event is full/, "$name: publishing is refused");
	my $size = outbox_mb();
	note "$size MB";
	cmp_ok($size, '<', 64, "$name: not much beyond the limit");
	return;
}

sub goes_on
{
	my ($name) = @_;
	# what the relay strives for: three quarters of the limit
	wait_until(sub { outbox_mb() < 24 }, "room to be made after $name");
	wait_until(
		sub { ($node->psql('postgres', q{SELECT durable_event.publish_event('e', 'k', '{}')}))[0] == 0 },
		"publishing to go on after $name");
	pass("$name: publishing goes on after that");
	return;
}

my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; SELECT count(*) FROM durable_event.outbox');
is_bounded('somebody reads the outbox');
$locker->query_safe('COMMIT');
goes_on('somebody reads the outbox');

# one of them only, which is next, or soon
$locker->query_safe('BEGIN; SELECT count(*) FROM durable_event.outbox_'
	  . $node->safe_psql('postgres', 'SELECT segment FROM durable_event.outbox ORDER BY id LIMIT 1'));
$refused = '';
for (my $i = 0; $i < 60 && $refused eq ''; $i++)
{
	$refused = deliver();
}
is($refused, '', 'with one segment that somebody reads the others do');
$locker->query_safe('COMMIT');

$locker->query_safe('BEGIN; ALTER SEQUENCE durable_event.relay_progress CACHE 1');
is_bounded('progress cannot be stored');
$node->wait_query(
	q{SELECT detail ~ 'store progress: .*lock' FROM durable_event.check() WHERE check_name = 'outbox'},
	'check() to say so');
$locker->query_safe('ROLLBACK');
goes_on('progress cannot be stored');

# a segment, not the current one, that is full and lies where no new file can be made
my $space = PostgreSQL::Test::Utils::tempdir_short();
my $directory;
$node->safe_psql('postgres', "CREATE TABLESPACE stuck LOCATION '$space'");
wait_until(
	sub {
		deliver();
		my ($stuck, @others) = split /\n/,
		  $node->safe_psql('postgres', 'SELECT segment FROM durable_event.outbox GROUP BY 1 ORDER BY max(id)');
		return 0 unless @others;
		$locker->query_safe("BEGIN; ALTER TABLE durable_event.outbox_$stuck SET TABLESPACE stuck");
		if ($locker->query_safe("SELECT count(*) FROM durable_event.outbox_$stuck") eq '0')
		{
			# just emptied
			$locker->query_safe('ROLLBACK');
			return 0;
		}
		($directory) = glob "$space/PG_*/*";
		chmod 0500, $directory or die "$directory: $!";
		$locker->query_safe('COMMIT');
		return 1;
	},
	'a segment that cannot be emptied');
$locker->quit;
# others can be, between two attempts; so it may be refused now and then, or not at all
deliver() foreach 1 .. 60;
cmp_ok(outbox_mb(), '<', 64, 'one segment that cannot be emptied: not much beyond the limit');
$node->wait_query(
	q{SELECT detail ~ 'move outbox segments on: ' FROM durable_event.check() WHERE check_name = 'outbox'},
	'check() to say so');
chmod 0700, $directory or die "$directory: $!";
# which waits for its next attempt for up to 30 s, and its successor does not
$node->kill_worker('relay', 'TERM');
goes_on('a segment cannot be emptied');
$node->wait_query(
	q{SELECT status FROM durable_event.check() WHERE check_name = 'outbox'},
	'the segment to be emptied', 'ok');
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET durable_event.max_outbox_size');

# Asks under a limit of 1 MB, and publishes nothing.
sub refused
{
	my ($result) = $node->psql(
		'postgres', q{
		SET durable_event.max_outbox_size = '1MB';
		BEGIN;
		SELECT durable_event.publish_event('e', 'k', '{}');
		ROLLBACK});
	return $result != 0;
}

if ($node->has_kill_points)
{
	# for as long as each attempt fails; one that comes too soon after the other may not
	my $since = time;
	wait_until(
		sub {
			$node->arm('relay-after-new-file', 'error');
			deliver() if outbox_mb() < 4;
			return refused();
		},
		'publishing to be refused while nothing can be emptied');
	# else it would do so after 10 seconds only, when the relay has not been heard of
	cmp_ok(time - $since, '<', 8, 'what is delivered counts while nothing can be emptied');
	$node->kill_worker('relay', 'TERM');
	wait_until(sub { !refused() }, 'publishing to go on');
	pass('and no more when it can');
}
$node->reconfigure('durable_event.segment_size' => '256MB');

# ---- events of the future

$node->safe_psql('postgres', q{SELECT durable_event.publish_event('e', 'future', '{}')});
ok($node->flush, 'an event is sent');
my $segment = $node->safe_psql('postgres',
	q{SELECT segment FROM durable_event.outbox WHERE key = 'future'});
# as a clock that is a year ahead would have written it
$node->safe_psql(
	'postgres', qq{
	BEGIN;
	ALTER TABLE durable_event.outbox_$segment DISABLE TRIGGER guard_statement;
	UPDATE durable_event.outbox_$segment SET created_at = now() + interval '1 year';
	ALTER TABLE durable_event.outbox_$segment ENABLE TRIGGER guard_statement;
	COMMIT});
$node->safe_psql('postgres', "VACUUM (FULL) durable_event.outbox_$segment");
$node->reconfigure('durable_event.segment_interval' => '1s');
wait_until(
	sub {
		$node->safe_psql('postgres',
			q{SELECT count(*) FROM durable_event.outbox WHERE key = 'future'}) eq '0';
	},
	'a segment with times of the future is emptied');
pass('a segment with times of the future is emptied');

# ---- a relay that stands still empties nothing

if ($node->has_kill_points)
{
	deliver();
	$node->arm('relay-after-rotation', 'hold');
	$node->wait_hit('relay-after-rotation');
	ok(!refused(), 'what is delivered does not count');
	# until the relay has not been heard of for 10 seconds: see below
}

# ---- places of listed databases

$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(one two);
$node->safe_psql($_, 'CREATE EXTENSION durable_event') foreach qw(one two);
my (undef, undef, $full) = $node->psql('one', q{SELECT durable_event.publish_event('e', 'k', '{}')});
like($full, qr/too many databases use durable_event/, 'the last place is kept for a listed database');
$node->safe_psql('postgres', 'CREATE DATABASE later');
$node->safe_psql('later', 'CREATE EXTENSION durable_event');
$node->wait_relay_state('running', 'later');
pass('that gets it when it is created');
$node->reconfigure('durable_event.databases' => 'postgres');
wait_until(
	sub { ($node->psql('one', q{SELECT durable_event.publish_event('e', 'one', '{}')}))[0] == 0 },
	'no longer listed, its place is free for others');
pass('no longer listed, its place is free for others');
$node->reconfigure('durable_event.databases' => 'postgres, two');
# it tries every 30 seconds
$node->wait_relay_state('running', 'two');
$node->publish('e', 'two', {}, undef, 'two');
ok($node->flush(undef, 'two'), 'a database that is listed later takes the place of an idle one');
is($node->safe_psql('one', q{SELECT count(*) FROM durable_event.outbox WHERE key = 'one'}),
	'1', 'whose events stay');

# ---- a place that is given away while a worker is about to use it

# Ends the relay of "two" and holds its successor at that point, with "two" listed no more and no
# launcher to end the successor for that; its pid.
sub hold_relay
{
	my ($point, $launcher) = @_;
	$node->arm($point, 'hold');
	$node->kill_worker('relay', 'TERM', 'two');
	$node->wait_hit($point);
	kill 'STOP', $launcher;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my ($pid) = `ps --ppid $postmaster -o pid=,args=` =~ /^ *(\d+) .*relay for database "two"/m;
	$node->reconfigure('durable_event.databases' => 'postgres');
	wait_until(sub { $node->safe_psql('one', 'SHOW durable_event.databases') eq 'postgres' }, 'reload');
	return $pid;
}

SKIP:
{
	skip 'built without kill points', 5 unless $node->has_kill_points;
	my $launcher = $node->worker_pid('launcher');
	my $position = $node->log_position;

	my $worker = hold_relay('worker-after-claim', $launcher);
	(undef, undef, $full) = $node->psql('one', q{SELECT durable_event.publish_event('e', 'k', '{}')});
	like($full, qr/too many databases use durable_event/, 'the place of a worker that has its cell is not given away');
	$node->reconfigure('durable_event.databases' => 'postgres, two');
	$node->release('worker-after-claim');
	is($node->wait_for_worker('relay', undef, 'two'), $worker, 'which goes on');
	kill 'CONT', $launcher;
	# old enough to be replaced at once
	$node->wait_relay_state('running', 'two');

	$position = $node->log_position;
	$worker = hold_relay('worker-before-claim', $launcher);
	is($node->safe_psql('one', q{SELECT durable_event.publish_event('e', 'k', '{}') IS NOT NULL}),
		't', 'that of one without a cell is');
	$node->release('worker-before-claim');
	wait_until(sub { !kill 0, $worker }, 'the worker to leave');
	unlike($node->log_since($position), qr/durable_event relay started/, 'which leaves');
	$node->reconfigure('durable_event.databases' => 'postgres, two');
	kill 'CONT', $launcher;
	# it tries every 30 seconds
	$node->wait_relay_state('running', 'two');
	pass('and is replaced when there is a place again');
}

# ---- the relay that stands still, again

if ($node->has_kill_points)
{
	wait_until(\&refused, 'what is delivered to count');
	pass('unless nobody is there to empty it');
	$node->release('relay-after-rotation');
	wait_until(sub { !refused() }, 'the relay to be heard of');
	pass('a moment after that it does not');
}

# ---- who holds the horizon

$node->reconfigure('synchronous_standby_names' => 'nobody');
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_until(qr/begun/, qq{\\echo begun\nSELECT durable_event.publish_event('e', 'waits', '{}');\n});
wait_until(
	sub {
		$node->safe_psql('postgres', 'SELECT commit_pid FROM durable_event.stat_relay') eq $pid;
	},
	'stat_relay names the backend whose commit waits');
pass('stat_relay names the backend whose commit waits');
is($node->safe_psql('postgres', q{SELECT status FROM durable_event.check() WHERE check_name = 'commit'}),
	'ok', 'check: for a moment that is nothing');
wait_until(
	sub {
		$node->safe_psql('postgres',
			q{SELECT status || detail || hint FROM durable_event.check() WHERE check_name = 'commit'})
		  =~ /^warning.*process $pid .*synchronous_standby_names/;
	},
	'check() warns of it');
pass('check() warns of it');
is($node->safe_psql('postgres', 'SELECT commit_seconds >= 5 FROM durable_event.stat_relay'),
	't', 'with its age');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
wait_until(
	sub {
		$node->safe_psql('postgres', 'SELECT commit_pid IS NULL FROM durable_event.stat_relay') eq 't';
	},
	'and no more when it is over');
$session->quit;
is($node->safe_psql('postgres', q{SELECT status FROM durable_event.check() WHERE check_name = 'commit'}),
	'ok', 'check: over');

done_testing;
