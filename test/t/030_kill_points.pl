# G1, G2, G3, G6: a process dies at each of the places that have a name (extension/base/kill_point.h):
# between the steps of a commit, of the relay's loop, of emptying a segment, of an acknowledgement.
# Nothing is lost, nothing inverted, what is repeated is bounded.  A point that is added to the
# sources is tried here without being named.
#
# And what a moment that cannot be hit from outside looks like: a commit that has drawn its ids
# and does not end holds back later ones, and nothing else; a commit that fails then holds nothing.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my %points;
my $repository = "$FindBin::RealBin/../..";
foreach my $file (glob "$repository/extension/*.c $repository/extension/*/*.c $repository/worker/*/*.c")
{
	my $text = slurp_file($file);
	push @{ $points{$1} }, $file
	  while $text =~ /DE_KILL_POINT\("((?:commit|relay|proxy)-[a-z0-9-]+)"\)/g;
}
cmp_ok(scalar(keys %points), '>', 15, 'the sources have kill points');
is_deeply([ grep { @{ $points{$_} } > 1 } sort keys %points ], [], 'each name stands at one place');

my ($node, $kafka, $handler) = rig(
	'kill',
	settings => {
		# a dead member's partitions are given to the next one soon
		'durable_event.kafka_config' => 'session.timeout.ms=3000,heartbeat.interval.ms=500',
		# segments move on and are emptied all the time
		'durable_event.segment_interval' => '1',
		'durable_event.retention' => '0'
	});
if (!$node->has_kill_points)
{
	die 'built without -DDE_KILL_POINTS' if $ENV{DE_TEST_REQUIRED};
	note 'built without -DDE_KILL_POINTS';
	done_testing();
	exit 0;
}
my $oracle = DurableEvent::Oracle->new($node, types => 2, entities => 40);

# ---- a commit that stands still after drawing its ids

my $held = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $held->query_safe('SELECT pg_backend_pid()');
$node->arm('commit-after-draw', 'hold', pid => $pid);
$held->query_until(qr/begun/, "\\echo begun\nSELECT oracle.write(1);\n");
$node->wait_hit('commit-after-draw');
$node->safe_psql('postgres', 'SELECT oracle.write(2)');
ok(!$node->flush(1), 'what commits later waits for a commit that has drawn its ids');
is($kafka->count($node->topic('oracle_0')), 0, 'and is not in Kafka');
$node->release('commit-after-draw');
ok($node->flush, 'it goes on when the commit is through');
$held->query_safe('SELECT 1');

# ---- a commit that fails after its events were inserted

$node->arm('commit-after-insert', 'error', pid => $pid);
$held->query('SELECT oracle.write(3)');
like($held->{stderr}, qr/kill point "commit-after-insert"/, 'a commit fails after its insertion');
is($node->safe_psql('postgres', 'SELECT version FROM oracle.entity WHERE entity = 3'),
	0, 'its transaction is rolled back');
$held->quit;
$node->safe_psql('postgres', 'SELECT oracle.write(4)');
ok($node->flush(10), 'and holds nothing back');

# ---- errors where the relay's own transactions are open

foreach my $point ('relay-after-setval', 'relay-after-emptying')
{
	$node->arm($point, 'error');
	my $writers = $oracle->start_writers(clients => 2, rate => 100);
	$node->wait_hit($point);
	$writers->stop;
	ok($node->flush, "the relay goes on after an error at $point");
}
$oracle->check_kafka($kafka, 'errors', max_duplicates => 2000);

# ---- death at each point

$node->create_group(
	'kill',
	event_types => [ $oracle->types ],
	handler_url => $handler->url('/kill'),
	backoff_max => '1 s');
$node->wait_group_state('kill', 'running');

foreach my $point (sort keys %points)
{
	my $writers = $oracle->start_writers(clients => 4, rate => 300);
	$node->arm($point, 'kill');
	$node->wait_hit($point);
	$writers->wait;
	$node->wait_until_up;
	pass("died at $point");
}
$node->wait_for_worker('relay');
ok($node->flush, 'flush after all deaths');
my $bound = 2000 + 1000 * keys %points;
$oracle->check_kafka($kafka, 'after a death at each point', max_duplicates => $bound);
$oracle->check_handler($handler, 'kill', 'after a death at each point', max_duplicates => $bound);

$node->stop;
done_testing();
