# What a leaving member commits while Kafka is slow.
#
# Guards against: an answer that comes after shutdown_timeout, while the last commit is awaited, and
# is not committed although there was time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use DurableEvent::Handler;
use DurableEvent::Kafka;
use DurableEvent::Node;
use DurableEvent::Util qw(wait_until);
use Test::More;

my $kafka = DurableEvent::Kafka->new;    # stands still for a moment
my $handler = DurableEvent::Handler->new;
my $node = DurableEvent::Node->create(
	'main',
	kafka => $kafka,
	settings => {
		'durable_event.proxy' => 'primary',
		'durable_event.shutdown_timeout' => '1s'
	});
my $topic = $node->topic('t');
my $group = $node->group_id('g');
$kafka->create_topic($topic, 2);
$node->create_group('g', topics => [$topic], handler_url => $handler->url('/g'), mode => 'single');
$node->wait_group_state('g', 'running');

sub committed { return $kafka->committed($group)->{"$topic $_[0]"} // -1; }

$kafka->produce($topic, [ map { { payload => '{}', partition => $_ } } 0, 1 ]);
wait_until(sub { committed(0) == 1 && committed(1) == 1 }, 'the first of both partitions to be committed');

# the answer for partition 1 comes between 1 and 2 s after the group begins to leave
$handler->control({ path => '/g', delay_ms => 1500 });
$kafka->produce($topic, [ { payload => '{"n":2}', partition => 1 } ]);
wait_until(sub { $handler->stats->{groups}{g}{in_flight} == 1 }, 'a request under way');
# that for partition 0 before, and there is no time to commit it
$handler->control({ path => '/g', status => 200 });
$kafka->produce($topic, [ { payload => '{"n":2}', partition => 0 } ]);
wait_until(sub { $handler->stats->{groups}{g}{acknowledged} == 3 }, 'an answer');
$kafka->freeze;
$node->update_group('g', enabled => 'false');
wait_until(sub { $handler->stats->{groups}{g}{acknowledged} == 4 },
	'an answer while the last commit waits');
$kafka->thaw;
wait_until(sub { committed(0) == 2 }, 'what was answered in time to be committed');
$node->wait_query('SELECT count(*) FROM durable_event.stat_group', 'the group to leave', 0);
wait_until(sub { committed(1) >= 1 }, 'Kafka to answer');
is(committed(1), 2, 'the answer that came late is committed, too');

$node->stop('fast');
$kafka->stop;
done_testing();
