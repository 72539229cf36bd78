# Consumer groups while they are registered, changed and removed.
#
# Guards against: a change of one group that makes it or others rebalance; an invalid group that
# disturbs others; deliveries that stand still while somebody holds a lock on the table of groups;
# events that are missed or come twice when a group is disabled, enabled, removed and added again;
# records of others' topics that a handler cannot read.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;
use List::Util qw(max min);
use Time::HiRes qw(time);

my ($node, $kafka, $handler) = rig(
	'main',
	settings => {
		'durable_event.topic_partitions' => 2
	});
my %defaults = (
	backoff_min => '5 ms',
	backoff_max => '20 ms',
	timeout => '20 s');

sub sql { return $node->safe_psql('postgres', @_); }

sub create_group
{
	my ($name, %columns) = @_;
	$node->create_group(
		$name, %defaults,
		handler_url => $handler->url("/$name"),
		$columns{topics} ? () : (event_types => ['e']),
		%columns);
	return;
}

sub group_column
{
	my ($name, $column) = @_;
	return sql("SELECT $column FROM durable_event.stat_group WHERE group_name = '$name'");
}

# Sum of a group's committed offsets.
sub committed
{
	my ($name) = @_;
	my $offsets = $kafka->committed($node->group_id($name));
	my $sum = 0;
	$sum += $_ foreach grep { $_ > 0 } values %$offsets;
	return $sum;
}

sub wait_committed
{
	my ($name, $n) = @_;
	my $last;
	wait_until(sub { ($last = committed($name)) == $n }, sub { "offset $n of $name, it is $last" });
	return;
}

# Ids of a group's events in order of arrival, with repetitions or without.
sub received
{
	my ($name) = @_;
	return map { $_->[3] } $handler->events(group => $name);
}

sub unique
{
	my %seen;
	return grep { !$seen{$_}++ } @_;
}

# ---- a group made before its topic; where groups start

create_group('early');
$node->wait_query(
	q{SELECT state IN ('joining', 'running') FROM durable_event.stat_group WHERE group_name = 'early'},
	'the group to join');
my @ids = map { $node->publish('e', "k$_", { n => $_ }) } 1 .. 8;
$handler->wait_for_events(8, group => 'early', acknowledged => 1);
pass('a group that is there before its topic gets the first event');

create_group('earliest');
create_group('latest', start_from => 'latest');
$handler->wait_for_events(8, group => 'earliest', acknowledged => 1);
pass('a group added later starts with the earliest');
$node->wait_group_state('latest', 'running');
# its positions are known, so it is at the end
$node->wait_query(q{SELECT position FROM durable_event.stat_group WHERE group_name = 'latest'},
	'the positions of the latest', 8);
push @ids, $node->publish('e', "k$_", { n => $_ }) foreach 9 .. 10;
$handler->wait_for_events(2, group => 'latest', acknowledged => 1);
is_deeply([ sort(received('latest')) ], [ sort @ids[ 8, 9 ] ], 'or with the latest');
$handler->wait_for_events(10, group => 'early', acknowledged => 1);
is_deeply([ sort(unique(received('early'))) ], [ sort @ids ], 'and misses nothing');
wait_committed($_, 10) foreach qw(early earliest latest);
$node->drop_group($_) foreach qw(early latest);

# ---- changed: limits and handler in place, without a rebalance

my %terms = map { ($_->{headers}{'durable-event-term'} => 1) } $handler->requests(group => 'earliest');
is(scalar keys %terms, 1, 'one term so far');
$node->update_group(
	'earliest',
	handler_url => $handler->url('/changed'),
	timeout => '7 s',
	batch_max_events => 200,
	backoff_max => '30 ms',
	linger => '0');
# what the proxy reads now it may have read a moment too early for the next event
wait_until(
	sub {
		$node->publish('e', 'k1', { n => 11 });
		$handler->requests(path => '/changed') > 0;
	},
	'a request to the new handler');
my ($changed) = $handler->requests(path => '/changed');
is($changed->{headers}{'durable-event-timeout-ms'}, 7000, 'a changed timeout is applied');
ok($terms{ $changed->{headers}{'durable-event-term'} }, 'without a rebalance: same term');
# bodies that are made keep their size, so this one begins anew, from the committed offsets
$node->update_group('earliest', handler_url => $handler->url('/smaller'), batch_max_events => 2);
wait_until(
	sub {
		$node->publish('e', 'k1', { n => 11 });
		$handler->requests(path => '/smaller') > 0;
	},
	'a request after the change');
sql(q{SELECT durable_event.publish_event('e', 'k1', '{}') FROM generate_series(1, 9)});
$node->flush;
my $total = $kafka->count($node->topic('e'));
$handler->wait_for_events($total, group => 'earliest', acknowledged => 1);
is((sort { $b <=> $a } map { scalar @{ $_->{body} } } $handler->requests(path => '/smaller'))[0],
	2, 'a smaller batch size is applied, too');
is(scalar(received('earliest')), $total, 'nothing came twice');

# ---- disabled, enabled, removed, added again

wait_committed('earliest', $total);
$node->update_group('earliest', enabled => 'false');
$node->wait_query('SELECT count(*) FROM durable_event.stat_group', 'the group to leave', 0);
wait_until(sub { ($kafka->groups->{ $node->group_id('earliest') }{members} // 0) == 0 },
	'its member to leave in Kafka');
$node->publish('e', 'k1', { n => 12 });
ok($node->flush, 'published while it is disabled');
is($handler->stats->{groups}{earliest}{events}, $total, 'a disabled group gets nothing');
$node->update_group('earliest', enabled => 'true');
$handler->wait_for_events($total + 1, group => 'earliest', acknowledged => 1);
wait_committed('earliest', $total + 1);
$node->drop_group('earliest');
$node->wait_query('SELECT count(*) FROM durable_event.stat_group', 'the group to leave', 0);
$node->publish('e', 'k1', { n => 13 });
$node->flush;
create_group('earliest');
$handler->wait_for_events($total + 2, group => 'earliest', acknowledged => 1);
is(scalar(received('earliest')), $total + 2, 'enabled, removed and added again: each event once');
$node->drop_group('earliest');

# ---- invalid groups, and a handler by setting

create_group('undisturbed', topics => [ $node->topic('a') ], mode => 'single');
$node->publish('a', 'k', { n => 0 });
$handler->wait_for_events(1, group => 'undisturbed', acknowledged => 1);
my $position = $node->log_position;
$node->create_group('no_url', event_types => ['a']);
$node->create_group('no_topic', topics => ['not a topic'], handler_url => $handler->url);
$node->wait_group_state($_, 'invalid') foreach qw(no_url no_topic);
like(group_column('no_url', 'last_error'), qr/handler_url/, 'a group without handler says so');
like(group_column('no_topic', 'last_error'), qr/"not a topic" cannot be the name of a topic/,
	'as one with a topic that cannot be');
my $before = $handler->stats->{groups}{undisturbed}{events};
my $term = ($handler->requests(group => 'undisturbed'))[-1]{headers}{'durable-event-term'};
$node->publish('a', 'k', { n => 'undisturbed' });
$handler->wait_for_events($before + 1, group => 'undisturbed', acknowledged => 1);
is(($handler->requests(group => 'undisturbed'))[-1]{headers}{'durable-event-term'}, $term,
	'others are not disturbed');
$node->reconfigure('durable_event.handler_url' => $handler->url('/default'));
wait_until(sub { $handler->requests(path => '/default') > 0 }, 'requests to the default handler');
pass('durable_event.handler_url by SIGHUP serves groups without a handler');
like($node->log_since($position), qr/consumer group "no_topic" cannot be run/, 'the log names it');
$node->drop_group($_) foreach qw(no_url no_topic undisturbed);

# ---- a topic of others, without CloudEvents headers

my $foreign = $node->topic('foreign-1');
$kafka->create_topic($foreign, 1);
create_group('foreign', topics => [$foreign], event_types => ['e'], mode => 'single');
$kafka->produce(
	$foreign,
	[
		{ key => 'a key', payload => '{"a": 1}', headers => { hdr => 'v1' } },
		{ payload => 'no JSON' },
		{
			key => 'k', payload => '"s"',
			headers => {
				ce_specversion => '1.0', ce_id => 'theirs', ce_source => '/theirs', ce_type => 'thing.happened',
				'content-type' => 'application/json'
			}
		}
	]);
my @foreign;
wait_until(
	sub {
		@foreign = grep { $_->{headers}{'durable-event-topic'} eq $foreign } $handler->requests(group => 'foreign');
		@foreign >= 3;
	},
	'records of the foreign topic');
my @bodies = map { $_->{body} } @foreign;
is(scalar(grep { defined delete $_->{time} } @bodies), 3, 'records of a foreign topic have a time');
is_deeply(
	\@bodies,
	[
		{
			specversion => '1.0', id => "$foreign-0-0", source => "kafka:$foreign", type => 'kafka.record',
			subject => 'a key', partitionkey => 'a key', kafkatopic => $foreign, kafkapartition => 0,
			kafkaoffset => '0', hdr => 'v1', datacontenttype => 'application/json', data => { a => 1 }
		},
		{
			specversion => '1.0', id => "$foreign-0-1", source => "kafka:$foreign", type => 'kafka.record',
			kafkatopic => $foreign, kafkapartition => 0, kafkaoffset => '1', data_base64 => 'bm8gSlNPTg=='
		},
		{
			specversion => '1.0', id => 'theirs', source => '/theirs', type => 'thing.happened',
			subject => 'k', partitionkey => 'k', kafkatopic => $foreign, kafkapartition => 0,
			kafkaoffset => '2', datacontenttype => 'application/json', data => 's'
		}
	],
	'and what CloudEvents attributes there are');
$handler->wait_for_events(3 + $kafka->count($node->topic('e')), group => 'foreign', acknowledged => 1);
pass('beside its event types');

# ---- while somebody holds a lock on the table of groups

create_group('steady', event_types => ['steady']);
$node->publish('steady', 'k', {});
$handler->wait_for_events(1, group => 'steady', acknowledged => 1);
my $position = $node->log_position;
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE durable_event.consumer_group IN ACCESS EXCLUSIVE MODE');
$node->reload;
wait_until(sub { $node->log_since($position) =~ /could not read the consumer groups/ }, 'the proxy to meet the lock');

# Longest pause between two deliveries of events that keep coming, in seconds; an attempt that
# waits for the lock takes one.  The machine may be busy: the best of three.
my $pause;
foreach (1 .. 3)
{
	my $seen = () = $handler->requests(group => 'steady');
	my $end = time + 3;
	$node->publish('steady', 'k', {}) while time < $end;
	$handler->wait_for_events($kafka->count($node->topic('steady')), group => 'steady', acknowledged => 1);
	my @times = map { $_->{time} / 1e6 } $handler->requests(group => 'steady');
	@times = @times[ $seen .. $#times ];
	my $longest = max(map { $times[$_] - $times[ $_ - 1 ] } 1 .. $#times);
	$pause = min($longest, $pause // $longest);
	last if $pause < 0.5;
}
cmp_ok($pause, '<', 0.5, 'groups are delivered to as before');
$locker->query_safe('COMMIT');
$locker->quit;
wait_until(sub { $node->log_since($position) =~ /consumer groups can be read again/ }, 'the groups to be read');

is($handler->stats->{total}{overlaps}, 0, 'never two requests of a partition at once');
$node->stop('fast');
done_testing();
