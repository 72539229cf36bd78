# What an operator configures of librdkafka for consumer groups, and what it says.
#
# Guards against: lines of the library's log that pile up in memory and are never seen; an outage
# in which hundreds of members fill the server's log; a property of kafka_config that is overridden
# silently; a property that lets an assertion of the library abort the server.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use DurableEvent::Handler;
use DurableEvent::Node;
use DurableEvent::Util qw(wait_until);
use PostgreSQL::Test::Cluster;
use Test::More;

my $handler = DurableEvent::Handler->new;
# nobody listens there
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $node = DurableEvent::Node->create(
	'main',
	bootstrap => "127.0.0.1:$port",
	settings => {
		'durable_event.proxy' => 'primary',
		'durable_event.relay' => 'on',
		'durable_event.kafka_config' => 'debug=conf, topic.metadata.refresh.interval.ms=12345',
		'log_min_messages' => 'debug2'
	});

my $groups = 20;
foreach (1 .. $groups)
{
	$node->create_group("g$_", event_types => ['e'], handler_url => $handler->url('/g'));
}

# ---- kafka_config wins where the guarantees leave it free

my $interval;
wait_until(
	sub {
		($interval) = $node->log_since(0) =~
		  /DEBUG:.*librdkafka for consumer group ".*g1": .*topic\.metadata\.refresh\.interval\.ms = (\d+)/;
	},
	'what the library logs of a group to reach the log');
is($interval, 12345, 'an interval in kafka_config is heeded');

# ---- errors are told, but not all of all members

my @errors;
wait_until(
	sub {
		@errors = grep { /librdkafka for consumer group "[^"]*": [A-Z]+: .*(refused|brokers are down)/ }
		  split /\n/, $node->log_since(0);
		@errors > 15;
	},
	sub { scalar(@errors) . ' complaints of the members' });
my @shown = grep { /LOG:/ } @errors;
cmp_ok(scalar @shown, '>=', 1, 'errors of the library are in the log at its default level');
cmp_ok(scalar @shown, '<=', 10, 'a few of them, whatever the number of groups');
$node->wait_query(q{SELECT bool_and(last_error IS NOT NULL AND state = 'disconnected') FROM durable_event.stat_group},
	'stat_group to tell', 't');

# ---- a property that aborts the process in old versions

my $position = $node->log_position;
$node->reconfigure('durable_event.kafka_config' => 'client.rack=a');
# the same library, by the program that the tests use anyway
if (`kcat -V` =~ /librdkafka 2\.(0\.|1\.0)/)
{
	$node->wait_query(q{SELECT count(*) FROM durable_event.stat_group WHERE state = 'invalid' AND
			last_error ~ 'client.rack.* needs librdkafka 2.1.1'},
		'client.rack to be refused', $groups);
	like($node->log_since($position), qr/consumer group "g1" could not be started/, 'and the log to say so');
	$node->reconfigure('durable_event.kafka_config' => '');
}
$node->wait_query(q{SELECT count(*) FROM durable_event.stat_group WHERE state = 'disconnected'},
	'groups to try again', $groups);
unlike($node->log_since(0), qr/\b(?:FATAL|PANIC|TRAP):|was terminated by signal/, 'nothing aborted');

$node->stop('fast');
done_testing();
