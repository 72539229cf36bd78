# Two servers share a consumer group: members join, leave, die and stall under load.
#
# Guards against: an offset that passes an event which no handler acknowledged (G7), at whatever
# point of a rebalance; answers that come after the assignment was lost and still count; order of
# first occurrences lost when a partition moves; a partition that nobody reads afterwards; events
# acknowledged and committed that come again after a leave in good order.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my $partitions = 4;
my ($primary, $kafka, $handler) = rig(
	'primary',
	settings => {
		'durable_event.topic_partitions' => $partitions,
		# a member that is gone is missed soon
		'durable_event.kafka_config' => 'session.timeout.ms=2500, heartbeat.interval.ms=500'
	});
my $oracle = DurableEvent::Oracle->new($primary, types => 2, entities => 60);
my $all = 2 * $partitions;
$primary->create_group(
	'shared',
	event_types => [ $oracle->types ],
	handler_url => $handler->url('/shared'),
	batch_max_events => 20,
	backoff_min => '20 ms',
	backoff_max => '200 ms');
$handler->control({ group => 'shared', delay_ms => 40 });

sub assigned
{
	my ($node) = @_;
	my ($result, $n) = $node->psql('postgres',
		q{SELECT partitions FROM durable_event.stat_group WHERE group_name = 'shared'});
	return defined $result && $result == 0 && $n ne '' ? $n : 0;
}

# Offsets that were committed before their events were acknowledged.  The handler notes what it
# acknowledges before it answers, and is asked after Kafka.
my @passed;
my $looks = 0;

sub look
{
	my $committed = $kafka->committed($primary->group_id('shared'));
	my %acknowledged;
	$acknowledged{"$_->[0] $_->[1]"}{ $_->[2] } = 1
	  foreach $handler->events(group => 'shared', acknowledged => 1);
	foreach my $partition (sort keys %$committed)
	{
		my ($lowest) = grep { !$acknowledged{$partition}{$_} } 0 .. $committed->{$partition} - 1;
		push @passed, "$partition: $committed->{$partition} committed, $lowest not acknowledged"
		  if defined $lowest;
	}
	$looks++;
	return $committed;
}

sub committed_sum
{
	my $sum = 0;
	$sum += $_ > 0 ? $_ : 0 foreach values %{ look() };
	return $sum;
}

# Everything goes on: both or all have the partitions, and the group's offsets move.
sub wait_shared
{
	my ($what, @nodes) = @_;
	my @have;
	wait_until(
		sub {
			my $sum = 0;
			look();
			@have = map { assigned($_) } @nodes;
			$sum += $_ foreach @have;
			$sum == $all && !grep { $_ == 0 } @have;
		},
		sub { "$what: all partitions to be assigned, they are: @have" });
	my $before = committed_sum();
	wait_until(sub { committed_sum() > $before + 20 }, "$what: events to be committed");
	pass($what);
	return;
}

my $writers = $oracle->start_writers(clients => 2, rate => 120);
$primary->wait_group_state('shared', 'running');
wait_shared('one member', $primary);

# ---- join

my $standby = $primary->create_standby('standby', 'durable_event.proxy' => 'standby');
wait_shared('a second member on a standby', $primary, $standby);

# ---- leave in good order, and come back

my $pid = $standby->kill_worker('proxy', 'TERM');
$standby->wait_for_worker('proxy', $pid);
wait_shared('left by SIGTERM and came again', $primary, $standby);

# ---- crash

$primary->kill_worker('proxy', 'KILL');
$primary->wait_until_up;
$writers->stop;
$writers = $oracle->start_writers(clients => 2, rate => 120);
wait_shared('killed', $primary, $standby);

# ---- stalled for longer than the session: its partitions go to the other, then it wakes up

$handler->control({ group => 'shared', delay_ms => 300 });
wait_until(
	sub {
		my ($result, $n) = $standby->psql('postgres',
			q{SELECT in_flight FROM durable_event.stat_group WHERE group_name = 'shared'});
		$n > 0;
	},
	'requests under way');
$pid = $standby->kill_worker('proxy', 'STOP');
wait_until(sub { look(); assigned($primary) == $all }, 'the partitions of a stalled member to move');

# from now on nothing is acknowledged, so offsets stand still once the answers before are dealt with
$handler->control({ group => 'shared', status => 500 });
my %refused;
wait_until(
	sub {
		$refused{"$_->{headers}{'durable-event-topic'} $_->{headers}{'durable-event-partition'}"} = 1
		  foreach grep { ($_->{status} // 0) == 500 } $handler->requests(group => 'shared');
		keys %refused == $all;
	},
	sub { 'events of all partitions to be refused: ' . join(', ', sort keys %refused) });
wait_until(
	sub {
		committed_sum() == $primary->safe_psql('postgres',
			q{SELECT position FROM durable_event.stat_group WHERE group_name = 'shared'});
	},
	'positions to be committed');
my $committed = look();
my $position = $standby->log_position;
kill('CONT', $pid);
wait_until(
	sub { assigned($primary) < $all && assigned($standby) > 0 && assigned($primary) > 0 },
	'the stalled member to join again');
is($standby->worker_pid('proxy'), $pid, 'the stalled member is still the same process');
is_deeply(look(), $committed, 'answers to what a lost assignment had sent change nothing');
unlike($standby->log_since($position), qr/ERROR|FATAL|PANIC|TRAP/, 'the loss is no error');
$handler->control({ group => 'shared', delay_ms => 10 });
wait_shared('stalled and awake again', $primary, $standby);

# ---- the end

$writers->stop;
ok($primary->flush, 'all is in Kafka');
$oracle->check_handler($handler, 'shared', 'after all');
my $ends = 0;
foreach my $topic ($oracle->topics)
{
	$ends += $_->{high} foreach values %{ $kafka->ends($topic) };
}
wait_until(sub { committed_sum() == $ends }, 'all to be committed');
$standby->stop;
wait_until(sub { assigned($primary) == $all }, 'one member again');
is(committed_sum(), $ends, 'all is committed, and stays so when a member leaves');
is_deeply(\@passed, [], 'no committed offset ever passed an event that was not acknowledged')
  or diag join("\n", @passed);
note "$looks looks at the committed offsets";

done_testing();
