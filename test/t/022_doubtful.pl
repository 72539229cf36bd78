# What the library acknowledges though the broker has refused it.
#
# Guards against: an event lost because the request behind it, already on its way, was stored.  The
# development broker does on demand what Kafka does when a producer is new to a partition (see
# 020_several_brokers.pl, which has to wait for the right moment).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use DurableEvent::Broker;
use DurableEvent::Node;
use DurableEvent::Util qw(json_decode);
use Test::More;

use constant NOT_ENOUGH_REPLICAS => 19;

my $broker = DurableEvent::Broker->new('-t', 'events:1');
my $node = DurableEvent::Node->create('main', bootstrap => $broker->bootstrap);

sub sql { return $node->safe_psql('postgres', @_); }

sub arrived { return join ' ', map { json_decode($_)->{n} } $broker->payloads('events'); }

sub hand_over
{
	my ($n) = @_;
	$node->publish('thing', 'k', { n => $n });
	$node->wait_query('SELECT read_id = drawn_id FROM durable_event.stat_relay', "event $n in flight");
	return;
}

# so that the next request is on its way before what became of the former one is known
sub refuse_the_next
{
	$broker->command('rtt 1500');
	$broker->command('refuse 1 ' . NOT_ENOUGH_REPLICAS);
	return;
}

sql("INSERT INTO durable_event.event_type (name, topic) VALUES ('thing', 'events')");
$node->wait_relay_state('running');

# ---- a producer that is new to the partition, where Kafka takes any first sequence

refuse_the_next();
my $position = $node->log_position;
hand_over(1);
$node->publish('thing', 'k', { n => 2 });
ok($node->flush, 'flush');
$broker->command('rtt 0');
is(arrived(), '1 2', 'the second is not sent before the first is there');
unlike($node->log_since($position), qr/could not send events to Kafka/, 'nothing has failed');

# ---- one that is not, and a broker that has forgotten it

refuse_the_next();
$position = $node->log_position;
hand_over(3);
hand_over(4);
$node->wait_query(
	q{SELECT last_error LIKE '%acknowledged without an offset%' FROM durable_event.stat_relay},
	'the acknowledgement to be doubted');
like(arrived(), qr/^1 2 4/, 'the second was stored without the first');
$broker->command('rtt 0');
ok($node->flush, 'flush');
is(arrived(), '1 2 4 3 4', 'all is sent again, in order');
my $failures = () = $node->log_since($position) =~ /could not send events to Kafka/g;
is($failures, 1, 'and told');

$node->stop('fast');
done_testing();
