# Where a group begins that has no committed offset, when it starts with the latest events.
#
# Guards against: events skipped that were published after the group was registered, because their
# topic or partition came to be later than the group, or the group was away while a partition was
# added, or no member had run yet; history delivered to a group that did not ask for it, because it
# has an offset in another partition of the topic.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my ($node, $kafka, $handler) = rig(
	'main',
	settings => {
		'durable_event.topic_partitions' => 2
	});

sub arrived { return scalar $handler->events(group => 'latest', acknowledged => 1); }

sub produce
{
	my ($type, @partitions) = @_;
	my $n = 0;
	$kafka->produce($node->topic($type),
		[ map { { payload => '{}', key => 'k' . $n++, partition => $_ } } @partitions ]);
	return;
}

# ---- a topic that is there has a history

$node->publish('old', "k$_", { n => $_ }) foreach 1 .. 5;
ok($node->flush, 'a history');
$node->create_group(
	'latest',
	event_types => [ 'old', 'new' ],
	handler_url => $handler->url('/latest'),
	start_from => 'latest');
$node->wait_group_state('latest', 'running');
$node->wait_query(q{SELECT position FROM durable_event.stat_group WHERE group_name = 'latest'},
	'the ends to be known', 5);
is(arrived(), 0, 'nothing of the history arrives');

# ---- a topic that comes later has none

$node->publish('new', "k$_", { n => $_ }) foreach 1 .. 6;
$handler->wait_for_events(6, group => 'latest', acknowledged => 1);
is(arrived(), 6, 'the first events of a topic that did not exist arrive');

# ---- partitions that are added

$kafka->grow_topic($node->topic('old'), 3);
produce('old', 2, 2, 2);
$handler->wait_for_events(9, group => 'latest', acknowledged => 1);
is(arrived(), 9, 'the first records of an added partition arrive');

# ---- away meanwhile

$node->update_group('latest', enabled => 'false');
wait_until(sub { !(($kafka->groups->{ $node->group_id('latest') } // {})->{members}) },
	'the member to leave');
$node->publish('old', "k$_", { n => $_ }) foreach 1 .. 4;
ok($node->flush, 'published while the group is off');
$kafka->grow_topic($node->topic('new'), 3);
produce('new', 2, 2);
$node->update_group('latest', enabled => 'true');
$handler->wait_for_events(15, group => 'latest', acknowledged => 1);
is(arrived(), 15, 'what came meanwhile arrives, on an added partition too');
$node->wait_query(q{SELECT lag FROM durable_event.stat_group WHERE group_name = 'latest'},
	'nothing to be left', 0);
is(arrived(), 15, 'and nothing twice');

# ---- no member has run when the topic comes

$node->create_group(
	'patient',
	event_types => ['later'],
	handler_url => $handler->url('/patient'),
	start_from => 'latest',
	enabled => 'false');
$node->publish('later', "k$_", { n => $_ }) foreach 1 .. 5;
ok($node->flush, 'published before the group ever ran');
$node->update_group('patient', enabled => 'true');
$handler->wait_for_events(5, group => 'patient', acknowledged => 1);
pass('what was published since it was made arrives');
$node->drop_group('patient');

# ---- one partition has an offset, another has not, and both have a history

my $topic = $node->topic('half');
$kafka->create_topic($topic, 1);
my @half = (
	topics => [$topic],
	handler_url => $handler->url('/half'),
	start_from => 'latest');
$node->create_group('half', @half);
produce('half', 0, 0);
$handler->wait_for_events(2, group => 'half', acknowledged => 1);
wait_until(sub { ($kafka->committed($node->group_id('half'))->{"$topic 0"} // 0) == 2 },
	'what it got to be committed');
$node->drop_group('half');
$node->wait_query(q{SELECT count(*) FROM durable_event.stat_group WHERE group_name = 'half'},
	'the group to leave', 0);
$kafka->grow_topic($topic, 2);
produce('half', 0, 1, 1, 1);
$node->create_group('half', @half);
$node->wait_group_state('half', 'running');
produce('half', 0, 1);
$handler->wait_for_events(5, group => 'half', acknowledged => 1);
is_deeply(
	[ sort map { "$_->[1]/$_->[2]" } $handler->events(group => 'half', acknowledged => 1) ],
	[ '0/0', '0/1', '0/2', '0/3', '1/3' ],
	'from the offset where there is one, else what came since the group was made');
wait_until(
	sub {
		my $committed = $kafka->committed($node->group_id('half'));
		($committed->{"$topic 0"} // 0) == 4 && ($committed->{"$topic 1"} // 0) == 4;
	},
	'all to be committed');
is(scalar $handler->events(group => 'half'), 5, 'and no history');
$node->drop_group('half');

# ---- a silent partition: the end is an offset too

$topic = $node->topic('silent');
$kafka->create_topic($topic, 1);
produce('silent', 0, 0, 0);
$node->create_group(
	'silent',
	topics => [$topic],
	handler_url => $handler->url('/silent'),
	start_from => 'latest');
wait_until(sub { ($kafka->committed($node->group_id('silent'))->{"$topic 0"} // 0) == 3 },
	'the end to be committed');
is(scalar $handler->events(group => 'silent'), 0, 'nothing of a silent topic arrives');

done_testing();
