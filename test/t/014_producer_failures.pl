# What goes wrong between a producer and a broker that is there: it stands still for longer than
# the relay waits, refuses whole batches, loses a topic under load; the relay's own limit shrinks.
#
# Guards against: an event lost or overtaken by a rewind, more repeated than was in flight, a
# producer given up while Kafka only pauses (all that is in flight would be repeated), threads or
# descriptors of former producers left behind, a log that tells of each attempt, an event accepted
# by publish_event() that no producer takes after max_event_size was lowered.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use DurableEvent::Kafka;
use DurableEvent::Node;
use DurableEvent::Oracle;
use DurableEvent::Util qw(json_decode wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

# events that a relay_buffer_size of 2 MB lets be in flight, at most: each costs a kilobyte in the library
use constant WINDOW => 2000;

# Own broker: it is stopped for a while.  It cannot load the library for snappy, so a topic with that
# compression fails in a way that no error code foresees.  A window of its own size, so that it fills.
$ENV{DE_KAFKA_JAVA_OPTS} = '-Dorg.xerial.snappy.tempdir=/proc/nowhere';
my $kafka = DurableEvent::Kafka->new;
my $node = DurableEvent::Node->create(
	'main',
	kafka => $kafka,
	settings => { 'durable_event.relay_buffer_size' => '2MB' });
my $prefix = $node->topic('');
my $oracle = DurableEvent::Oracle->new($node, types => 2, entities => 40);
my $relay = $node->wait_for_worker('relay');

sub sql { return $node->safe_psql('postgres', @_); }

# n of the events in a topic, in order of their first arrival; and how many came again
sub arrivals
{
	my ($topic) = @_;
	my (%seen, @n, $again);
	$again = 0;
	foreach my $record ($kafka->consume($topic))
	{
		if ($seen{ $record->{headers}{ce_id} }++) { $again++; next; }
		push @n, json_decode($record->{payload})->{n};
	}
	return (join(' ', @n), $again);
}

# sockets, pipes, eventfds, epolls: what is a file is the server's
sub descriptors { return scalar grep { (readlink($_) // '/') !~ m{^/} } glob "/proc/$relay/fd/*"; }
sub threads { my @tasks = glob "/proc/$relay/task/*"; return scalar @tasks; }

# What the relay has said since then: its first lines, not DETAIL and the like.
sub lines
{
	my ($position) = @_;
	return grep { /(?:LOG|WARNING|ERROR|FATAL|PANIC):/ && /event|Kafka|relay|librdkafka/i
		  && !/statement:|parameter "|created Kafka topic/ }
	  split /\n/, $node->log_since($position);
}

sub few_lines
{
	my ($position, $max, $name) = @_;
	my @lines = lines($position);
	return cmp_ok(scalar @lines, '<=', $max, $name) || diag join("\n", @lines);
}

# events of the oracle's that came more than once
sub duplicates
{
	my $n = 0;
	foreach my $type ($oracle->types)
	{
		my %seen;
		$n += grep { $seen{ $_->{headers}{ce_id} }++ } $kafka->consume($node->topic($type));
	}
	return $n;
}

# ---- the broker stands still: connections stay, nothing is answered

ok($node->flush, 'the relay is at work');
my $writers = $oracle->start_writers(clients => 4, rate => 400);
my $position = $node->log_position;
my $before = $oracle->committed_count;
wait_until(sub { $oracle->committed_count > $before + 200 }, 'the writers to write');
# what stands still is not the creation of topics
ok($node->flush, 'their topics are there');
chomp(my $broker = slurp_file($kafka->dir . '/pid'));

# for less than requests may take: the same ones are answered
kill 'STOP', $broker;
my $stopped = time;
wait_until(sub { time >= $stopped + 6 }, 'six seconds of standstill');
kill 'CONT', $broker;
ok($node->flush, 'flush after a pause');
is(duplicates(), 0, 'nothing is repeated');
few_lines($position, 0, 'which is not worth a word');

# for longer: they are given up and sent again over another connection
kill 'STOP', $broker;
$stopped = time;
$before = $oracle->committed_count;
$node->wait_relay_state('connecting');
my $acked = sql('SELECT acked_id FROM durable_event.stat_relay');
# in the log: a second later last_error has what the library says of its connections
like($node->log_since($position), qr/DETAIL: +no answer from "[^"]*" for \d+ seconds/,
	'a broker that stands still is told as such');
wait_until(sub { time >= $stopped + 15 }, 'fifteen seconds of standstill');
cmp_ok($oracle->committed_count, '>', $before + 1000, 'commits go on');
is(sql('SELECT acked_id FROM durable_event.stat_relay'), $acked, 'nothing counts as acknowledged');
kill 'CONT', $broker;
$node->wait_relay_state('running');
$writers->stop;
ok($node->flush, 'flush after the standstill');
# The broker has both requests in its hands when it goes on.  Mostly it drops the second one, by its
# sequence number; where it finds them in an order that ends the producer, the window is repeated.
$oracle->check_kafka($kafka, 'standstill', max_duplicates => WINDOW);
few_lines($position, 4, 'a line for the standstill and one for its end, and for a producer');
is($node->worker_pid('relay'), $relay, 'by the same relay');

# ---- batches that the topic refuses, though each event of them fits

sql(<<"SQL");
INSERT INTO durable_event.event_type (name, partitions, topic_config)
	VALUES ('narrow', 1, '{"max.message.bytes": "20000"}'), ('doomed', 1, NULL);
SQL
wait_until(sub { $kafka->topics->{"${prefix}narrow"} && $kafka->topics->{"${prefix}doomed"} },
	'the topics');
my ($fds, $threads) = (descriptors(), threads());
$position = $node->log_position;
# random, so that they do not fit by being packed
sub publish_narrow
{
	my ($from, $to) = @_;
	sql(<<"SQL");
SELECT durable_event.publish_event(CASE WHEN i % 10 = 0 THEN 'bystander' ELSE 'narrow' END, 'k',
	jsonb_build_object('n', i, 'pad',
		(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 100 + i * 0))))
FROM generate_series($from, $to) i;
SQL
	return;
}
publish_narrow(1, 100);
ok($node->flush(60), 'batches too large for their topic are sent in the end');
# one that is refused costs a producer, so they become smaller until none is
foreach my $round (1 .. 6)
{
	my $at = $node->log_position;
	publish_narrow($round * 100 + 1, $round * 100 + 100);
	ok($node->flush(60), 'more of them');
	last if !lines($at);
}
$position = $node->log_position;
publish_narrow(1001, 1500);
ok($node->flush(60), 'many of them');
few_lines($position, 0, 'no batch is refused any more');
my ($n, $again) = arrivals("${prefix}narrow");
my @n = split / /, $n;
is_deeply([ sort { $a <=> $b } @n ], \@n, 'in order');
is_deeply([ grep { $_ <= 100 || $_ > 1000 } @n ], [ grep { $_ % 10 } 1 .. 100, 1001 .. 1500 ],
	'none missing');
is($again, 0, 'none of those that were refused came twice');

# ---- a topic deleted under load

$writers = $oracle->start_writers(clients => 2, rate => 200);
$position = $node->log_position;
my $doomed = 0;
sub publish_doomed { $node->publish('doomed', 'k', { n => ++$doomed }); return; }
publish_doomed() foreach 1 .. 5;
ok($node->flush, 'published before the deletion');
$kafka->delete_topic("${prefix}doomed");
publish_doomed() foreach 1 .. 5;
wait_until(
	sub {
		publish_doomed();
		return $kafka->count("${prefix}doomed") >= 5;
	},
	'the deleted topic to be made again and used');
$writers->stop;
ok($node->flush(60), 'flush after the deletion');
($n) = arrivals("${prefix}doomed");
@n = split / /, $n;
is_deeply([ sort { $a <=> $b } @n ], \@n, 'what came after the deletion is in order');
# the first of them may have reached the topic that was just going
is($n[-1], $doomed, 'up to the last one');
is_deeply(\@n, [ $n[0] .. $doomed ], 'without a gap');
cmp_ok($n[0], '<=', 11, 'and none is missing but what the topic took with it');
few_lines($position, 2, 'a line for the refusal and one for its end, whatever the attempts');

# ---- one bad event among very many good ones

$position = $node->log_position;
sql(<<'SQL');
SELECT durable_event.publish_event(CASE WHEN i = 15000 THEN 'narrow' ELSE 'crowd' END,
	(i % 50)::text, jsonb_build_object('n', i, 'pad', CASE WHEN i = 15000 THEN
		(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 1000 + i * 0)) END))
FROM generate_series(1, 20000) i;
SQL
my ($bad) = sql('SELECT id FROM durable_event.outbox WHERE event_type = \'narrow\' ORDER BY id DESC LIMIT 1');
my $started = time;
$node->wait_query("SELECT acked_id = $bad - 1 FROM durable_event.stat_relay",
	'all events before the bad one to be acknowledged');
cmp_ok(time - $started, '<=', 15, 'what is before an event that is refused does not take one by one');
$kafka->alter_topic("${prefix}narrow", 'max.message.bytes=100000');
ok($node->flush(60), 'flush once its topic takes it');
my (%seen, %last, $inverted);
foreach my $record ($kafka->consume("${prefix}crowd"))
{
	next if $seen{ $record->{headers}{ce_id} }++;
	my $n = json_decode($record->{payload})->{n};
	$inverted++ if $n <= ($last{ $record->{key} } // 0);
	$last{ $record->{key} } = $n;
}
is(scalar keys %seen, 19999, 'none of the others is lost');
is($inverted, undef, 'none is overtaken');
few_lines($position, 4, 'with few words');

# ---- an error of which nobody says that it is final, but which comes again and again

$position = $node->log_position;
sql(<<'SQL');
INSERT INTO durable_event.event_type (name, partitions, topic_config)
	VALUES ('cursed', 1, '{"compression.type": "snappy"}');
SELECT durable_event.publish_event('beside', (i % 50)::text, jsonb_build_object('n', i))
FROM generate_series(1, 100) i;
SQL
ok($node->flush, 'events beside it');
sql(<<'SQL');
SELECT durable_event.publish_event(CASE WHEN i = 101 THEN 'cursed' ELSE 'beside' END,
	(i % 50)::text, jsonb_build_object('n', i))
FROM generate_series(101, 1000) i;
SQL
$node->wait_query(
	qq{SELECT last_error LIKE 'event % for topic "${prefix}cursed" was refused: %' FROM durable_event.stat_relay},
	'it to count as refused');
sql(<<'SQL');
SELECT durable_event.publish_event('cursed', 'k', jsonb_build_object('n', i)) FROM generate_series(1001, 1010) i
SQL
$kafka->alter_topic("${prefix}cursed", 'compression.type=producer');
ok($node->flush(60), 'flush once the topic takes it');
is((arrivals("${prefix}cursed"))[0], join(' ', 101, 1001 .. 1010), 'in order');
(undef, $again) = arrivals("${prefix}beside");
# what was on the wire when a producer was given up may be, but not all of it each time
cmp_ok($again, '<', 900, 'what other topics have taken is not sent to them with each attempt');
few_lines($position, 2, 'a line for the failure and one for its end');

# ---- the first event that a new producer sends to a partition is refused, those behind it are not

sql(<<'SQL');
INSERT INTO durable_event.event_type (name, partitions, topic_config)
	VALUES ('pair', 1, '{"max.message.bytes": "400000"}');
CREATE FUNCTION pad(n int) RETURNS text LANGUAGE sql VOLATILE
	AS $$ SELECT string_agg(md5(random()::text), '') FROM generate_series(1, n / 32) $$;
SQL
wait_until(sub { $kafka->topics->{"${prefix}pair"} }, 'the topic');
$position = $node->log_position;
$node->reconfigure('durable_event.relay_buffer_size' => '65MB');
ok($node->flush, 'a new producer');
sql(<<'SQL');
SELECT durable_event.publish_event('pair', 'k', jsonb_build_object('n', n, 'pad', pad(size)))
FROM (VALUES (1, 900000), (2, 200000), (3, 32)) AS e(n, size);
SQL
$node->wait_query(q{SELECT last_error LIKE '%was refused%' FROM durable_event.stat_relay}, 'a refusal');
$kafka->alter_topic("${prefix}pair", 'max.message.bytes=2000000');
ok($node->flush(60), 'flush once the topic takes it');
is((arrivals("${prefix}pair"))[0], '1 2 3', 'none overtakes the one that was refused');

# ---- max_event_size lowered below an event that waits

$position = $node->log_position;
sql('SELECT durable_event.pause_relay()');
$node->wait_relay_state('paused');
sql(<<'SQL');
SELECT durable_event.publish_event('wide', 'k', jsonb_build_object('n', i, 'pad', repeat('x', 300000)))
FROM generate_series(1, 2) i;
SQL
$node->reconfigure('durable_event.max_event_size' => '100kB');
wait_until(sub { sql('SHOW durable_event.max_event_size') eq '100kB' }, 'the new setting');
sql('SELECT durable_event.resume_relay()');
ok($node->flush(60), 'events of before max_event_size was lowered are sent');
is((arrivals("${prefix}wide"))[0], '1 2', 'both of them');
few_lines($position, 6, 'with few words');

# ---- a topic that has fewer partitions than its row says

sub told_of_partitions
{
	my ($position, $topic) = @_;
	my $n = () = $node->log_since($position) =~ /WARNING: .*"\Q$prefix$topic\E" has fewer partitions than/g;
	return $n;
}
$position = $node->log_position;
$kafka->create_topic("${prefix}few", 2);
$kafka->create_topic("${prefix}enough", 4);
sql("INSERT INTO durable_event.event_type (name, partitions) VALUES ('few', 3), ('enough', 4)");
wait_until(sub { told_of_partitions($position, 'few') }, 'a warning about a topic that was there');
is($kafka->topics->{"${prefix}few"}, 2, 'which is left as it is');
$position = $node->log_position;
sql("UPDATE durable_event.event_type SET partitions = 3 WHERE name = 'doomed'");
wait_until(sub { told_of_partitions($position, 'doomed') }, 'a warning when the number is changed');
is($kafka->topics->{"${prefix}doomed"}, 1, 'which changes no topic');
is(told_of_partitions(0, 'enough'), 0, 'no warning about others');
is(told_of_partitions(0, 'few'), 1, 'one is enough');

# ---- what all these producers have left behind

is($node->worker_pid('relay'), $relay, 'the relay has lived through all of it');
wait_until(sub { descriptors() <= $fds + 2 }, 'connections to be closed', 10) if descriptors() > $fds + 2;
cmp_ok(descriptors(), '<=', $fds + 2, 'descriptors of former producers are closed');
cmp_ok(threads(), '<=', $threads + 1, 'and their threads have ended');

# duplicates: what was in flight when a producer was given up, a few times
$oracle->check_kafka($kafka, 'at the end');

$node->stop('fast');
done_testing();
