# A topic that takes nothing for now holds only its own events.
#
# Guards against: events of other topics that wait behind those of a partition without a leader; a
# held event that is lost, sent twice or overtaken when its topic takes events again, is read again
# while the topics are loaded anew, or when the relay ends meanwhile.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use DurableEvent::Broker;
use DurableEvent::Node;
use DurableEvent::Util qw(json_decode wait_until);
use Test::More;

my $broker = DurableEvent::Broker->new('-n', 2, '-t', 'shut:4', '-t', 'open:2');
my $node = DurableEvent::Node->create('main', bootstrap => $broker->bootstrap);
my $published = 0;
my %in;

sub sql { return $node->safe_psql('postgres', @_); }

# Publishes n events, nine of ten in the topic that flows.
sub publish
{
	my ($n) = @_;
	my $from = $published + 1;
	$published += $n;
	sql(<<"SQL");
SELECT count(durable_event.publish_event(CASE WHEN n % 10 = 0 THEN 'shut' ELSE 'open' END, 'k' || n % 70,
	jsonb_build_object('n', n)))
FROM generate_series($from, $published) n
SQL
	return;
}

sub arrivals { my ($topic) = @_; return map { json_decode($_)->{n} } $broker->payloads($topic); }

sub open_flows
{
	my ($name) = @_;
	my $wanted = $published - int($published / 10);
	wait_until(sub { scalar(my @n = arrivals('open')) >= $wanted }, $name, 20);
	return pass($name);
}

# once each, those of a key in order
sub in_order
{
	my ($topic, $name) = @_;
	my (%seen, %last, @wrong);
	foreach my $n (arrivals($topic))
	{
		my $key = $n % 70;
		push @wrong, "$n again" if $seen{$n}++;
		push @wrong, "$n after $last{$key}" if $n < ($last{$key} // 0);
		$last{$key} = $n;
	}
	my @wanted = grep { ($_ % 10 == 0) == ($topic eq 'shut') } 1 .. $published;
	is_deeply([ sort { $a <=> $b } keys %seen ], \@wanted, "$name: all are there");
	return is_deeply(\@wrong, [], "$name: once, in order");
}

sub shut_off { $broker->command("leader shut $_ -1") foreach 0 .. 3; return; }

sub open_up { $broker->command("leader shut $_ " . ($_ % 2 + 1)) foreach 0 .. 3; return; }

sub new_producer
{
	my $relay = $node->worker_pid('relay');
	sql("SELECT pg_terminate_backend($relay)");
	$node->wait_for_worker('relay', $relay);
	$node->wait_relay_state('running');
	return;
}

sql(q{INSERT INTO durable_event.event_type (name, topic) VALUES ('shut', 'shut'), ('open', 'open')});
publish(100);
ok($node->flush, 'both take events');

# ---- no leader when the producer is new

shut_off();
new_producer();
my $position = $node->log_position;
publish(30_000);
open_flows('the events of another topic do not wait');
my $acked = sql('SELECT acked_id FROM durable_event.stat_relay');
publish(1000);
open_flows('nor do later ones');
is(sql('SELECT acked_id FROM durable_event.stat_relay'), $acked, 'what waits does not count as acknowledged');
open_up();
ok($node->flush(60), 'flush once there is a leader');
in_order('shut', 'held');
in_order('open', 'flowed');

# ---- some partitions lead, others do not; the topics are loaded anew meanwhile

$broker->command("leader shut $_ -1") foreach 1, 2;
new_producer();
publish(5000);
open_flows('others flow beside a topic that has half of its leaders');
sql("INSERT INTO durable_event.event_type (name, topic) VALUES ('third', 'third')");
publish(1000);
open_flows('and after a reload of the topics');
open_up();
ok($node->flush(60), 'flush');
in_order('shut', 'reloaded');

# ---- a leader that goes while the producer is at work, and more events than may be in flight

$broker->command("leader shut $_ 2") foreach 0 .. 3;
$broker->command("leader open $_ 1") foreach 0, 1;
$node->reconfigure('durable_event.relay_buffer_size' => '2MB');
publish(100);
ok($node->flush, 'a producer with less room, at work');
$broker->command('down 2');
publish(30_000);
open_flows('a topic whose leader is gone leaves room for others');
publish(100);
open_flows('for later ones, too');
$broker->command('up 2');
ok($node->flush(60), 'flush');
in_order('shut', 'left room');

# ---- the relay ends while events are held

shut_off();
new_producer();
publish(2000);
open_flows('held once more');
new_producer();
publish(100);
open_up();
ok($node->flush(60), 'flush by the next relay');
{
	my %seen = map { ($_ => 1) } arrivals('shut');
	is(scalar keys %seen, int($published / 10), 'none is lost');
}

$node->stop('fast');
done_testing();
