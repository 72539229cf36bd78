# One of two brokers goes: it stands still while its partitions get another leader; what Kafka
# refuses for the moment, for want of a replica, is sent again.
#
# Guards against: partitions whose events wait for the answer of a former leader long after they
# have another; an event that is lost, or overtaken, because Kafka refused it and took the one behind
# it, which it does where a producer is new to the partition; that it is reported as acknowledged
# nevertheless.  Here that is a matter of the moment; 022_doubtful.pl brings it about.

use strict;
use warnings;

use DurableEvent::Kafka;
use DurableEvent::Node;
use DurableEvent::Util qw(json_decode wait_until);
use Test::More;

use constant { ROUNDS => 2, PARTITIONS => 30, KEYS => 90, EVENTS => 240 };

my $kafka = DurableEvent::Kafka->new;
my $second = $kafka->add_broker;
my $node = DurableEvent::Node->create('main', kafka => $kafka);
my $prefix = $node->topic('');

sub sql { return $node->safe_psql('postgres', @_); }

# ---- a broker stands still, its connections stay

sub leads { my ($topic) = @_; return grep { $_->{leader} == 2 } values %{ $kafka->partitions($topic) }; }

sql(<<'SQL');
INSERT INTO durable_event.event_type (name, partitions, replication_factor, topic_config)
	VALUES ('spread', 8, 2, '{"min.insync.replicas": "1"}');
SQL
wait_until(sub { $kafka->topics->{"${prefix}spread"} && leads("${prefix}spread") },
	'a topic that both brokers lead partitions of');
sub publish_spread
{
	my ($from, $to) = @_;
	sql("SELECT count(durable_event.publish_event('spread', 'k' || n % 40, jsonb_build_object('n', n))) FROM generate_series($from, $to) n");
	return;
}
publish_spread(1, 100);
ok($node->flush, 'both take events');
$second->freeze;
my $frozen = time;
publish_spread(101, 500);
ok($node->flush, 'the one left takes them all');
my $took = time - $frozen;
note "$took s after the other stood still";
cmp_ok($took, '<=', 20, 'soon after it leads the partitions of the one that stands still');
ok(!leads("${prefix}spread"), 'which it does by then');
$second->thaw;
my (%seen, %last, $inverted);
foreach my $record ($kafka->consume("${prefix}spread"))
{
	my $n = json_decode($record->{payload})->{n};
	next if $seen{$n}++;
	$inverted++ if $n < ($last{ $record->{key} } // 0);
	$last{ $record->{key} } = $n;
}
is(scalar keys %seen, 500, 'none is lost');
is($inverted, undef, 'none is overtaken');
wait_until(
	sub {
		!grep { @{ $_->{isr} } < 2 } values %{ $kafka->partitions("${prefix}spread") };
	},
	'the broker to be back');

# ---- fewer replicas than min.insync.replicas, for a while

my $partitions = PARTITIONS;
my $rounds = ROUNDS;
sql(<<"SQL");
INSERT INTO durable_event.event_type (name, partitions, replication_factor, topic_config)
SELECT 'strict_' || i, $partitions, 2, '{"min.insync.replicas": "2"}' FROM generate_series(1, $rounds) i;
SQL
wait_until(
	sub {
		my $topics = $kafka->topics;
		return !grep { !$topics->{"${prefix}strict_$_"} } 1 .. ROUNDS;
	},
	'the topics');
$second->kill;
wait_until(
	sub {
		my $partitions = $kafka->partitions("${prefix}strict_$rounds");
		return !grep { $_->{leader} != 1 || @{ $_->{isr} } > 1 } values %$partitions;
	},
	'the other broker to lead all partitions, without a replica in sync');

# acknowledgements that were not believed
my $doubted = 0;
foreach my $round (1 .. ROUNDS)
{
	my $type = "strict_$round";
	my $keys = KEYS;
	my $position = $node->log_position;
	my $refusals = $kafka->log_count('NotEnoughReplicasException');

	# a producer that is new to every partition
	my $relay = $node->worker_pid('relay');
	sql("SELECT pg_terminate_backend($relay)");
	$node->wait_for_worker('relay', $relay);
	$node->wait_relay_state('running');

	# a few events in each partition's first request, as the rates of most topics are
	sql("SELECT count(durable_event.publish_event('$type', k::text, jsonb_build_object('n', k))) FROM generate_series(1, $keys) k");
	sql("SELECT count(durable_event.publish_event('$type', (1 + n % $keys)::text, jsonb_build_object('n', n))) FROM generate_series($keys + 1, @{[EVENTS]}) n");
	wait_until(sub { $kafka->log_count('NotEnoughReplicasException') > $refusals + PARTITIONS },
		'Kafka to refuse them');
	$kafka->alter_topic("$prefix$type", 'min.insync.replicas=1');
	ok($node->flush, "round $round: flush");

	my (%at, %last, $overtaken);
	my $place = 0;
	foreach my $record ($kafka->consume("$prefix$type"))
	{
		my $n = json_decode($record->{payload})->{n};
		next if defined $at{$n};
		$at{$n} = $place++;
		$overtaken++ if $n < ($last{ $record->{key} } // 0);
		$last{ $record->{key} } = $n;
	}
	is_deeply([ grep { !defined $at{$_} } 1 .. EVENTS ], [], 'no event that counts as acknowledged is lost');
	is($overtaken, undef, 'none is overtaken');
	$doubted++ if $node->log_since($position) =~ /acknowledged without an offset/;
}
is($doubted, 0, 'none was reported as acknowledged that Kafka had refused');

$node->stop('fast');
done_testing();
