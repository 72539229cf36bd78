# G1, G2, G3, G6 under kill -9: of the relay and the proxy (which makes the server restart all its
# processes) and of the postmaster, under 8 writers.  Every committed event reaches Kafka and the
# handler, none of a rolled-back transaction or savepoint does, versions stay in order per key, and
# what is repeated is bounded.
#
# DE_CRASH_ROUNDS sets the number of kills of the postmaster.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my $rounds = $ENV{DE_CRASH_ROUNDS} // 20;

# What a crash may repeat: a progress interval and the window, at the rate of the writers.
my $duplicates_per_crash = 1000;

my ($node, $kafka, $handler) = rig(
	'crash',
	settings => { 'durable_event.segment_size' => '1MB',
		'durable_event.retention' => '0' });
my $oracle = DurableEvent::Oracle->new($node, types => 2, entities => 40);
$node->create_group(
	'crash',
	event_types => [ $oracle->types ],
	handler_url => $handler->url('/crash'),
	backoff_max => '1 s');

# Something new was committed and its events are on their way: a moment worth a kill.
sub wait_for_load
{
	my $before = $oracle->committed_count;
	wait_until(sub { $oracle->committed_count > $before + 100 }, 'the writers to write');
	return;
}

foreach my $victim ('relay', 'proxy 0', 'relay', 'proxy 0')
{
	my $writers = $oracle->start_writers(clients => 8);
	wait_for_load();
	my $kind = $victim =~ s/ \d+$//r;
	$node->kill_worker($kind);
	$writers->wait;
	$node->wait_until_up;
}
$node->wait_for_worker('relay');
ok($node->flush, 'flush after kills of the workers');
my $workers_duplicates = 4 * $duplicates_per_crash;
$oracle->check_kafka($kafka, 'workers killed', max_duplicates => $workers_duplicates);

foreach my $round (1 .. $rounds)
{
	my $writers = $oracle->start_writers(clients => 8);
	# every other time as soon as there is load, whatever the relay has come to
	wait_until(
		sub { ($node->psql('postgres', 'SELECT events_acked > 0 FROM durable_event.stat_relay'))[1] eq 't' },
		'the relay to get acknowledgements') if $round % 2 == 0;
	wait_for_load();
	$node->kill9_and_start;
	$writers->stop;
}
$node->wait_for_worker('relay');
ok($node->flush, "flush after $rounds kills of the postmaster");
my $max_duplicates = $workers_duplicates + $rounds * $duplicates_per_crash;
$oracle->check_kafka($kafka, 'postmaster killed', max_duplicates => $max_duplicates);
$oracle->check_handler($handler, 'crash', 'postmaster killed');

is($node->safe_psql('postgres', "SELECT sum(pg_relation_size('durable_event.outbox_' || i)) < 8 * 1024 * 1024 FROM generate_series(0, 7) AS i"),
	't', 'published segments were emptied meanwhile');

$node->stop;
done_testing();
