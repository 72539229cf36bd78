# Kafka is away: when the relay starts, and later under load.  Nothing is lost or inverted, memory
# is bounded, the log says so once and says once that it is over, commits do not notice.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

# Own broker: others must not lose theirs.  It is down when the relay starts.
my $kafka = DurableEvent::Kafka->new;
$kafka->stop;
my $handler = DurableEvent::Handler->new;
$handler->start;
my $node = DurableEvent::Node->create(
	'outage',
	kafka => $kafka,
	settings => {
		'durable_event.proxy' => 'primary',
		'durable_event.relay_buffer_size' => '1MB',
		'durable_event.shutdown_timeout' => '3s'
	});
my $oracle = DurableEvent::Oracle->new($node, types => 2, entities => 40);
$node->create_group(
	'outage',
	event_types => [ $oracle->types ],
	handler_url => $handler->url('/outage'),
	backoff_max => '1 s');

sub rss_mb
{
	my ($kind) = @_;
	my $pid = $node->worker_pid($kind);
	my ($kb) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return $kb / 1024;
}

# down at start
my $writers = $oracle->start_writers(clients => 4, seconds => 3);
$node->wait_relay_state('connecting');
$writers->wait;
is($node->safe_psql('postgres', q{SELECT status, detail IS NOT NULL, hint ~ 'bootstrap_servers' FROM durable_event.check() WHERE check_name = 'relay'}),
	'error|t|t', 'check() names the unreachable broker');
my $elapsed = time;
$node->stop('fast');
$elapsed = time - $elapsed;
cmp_ok($elapsed, '<=', 5, 'fast shutdown within seconds with the broker down');
$node->start;
$node->wait_relay_state('connecting');
my $position = $node->log_position;
$kafka->start;
$node->wait_relay_state('running');
ok($node->flush, 'flush once Kafka is there');
$oracle->check_kafka($kafka, 'down at start', max_duplicates => 0);
$oracle->check_handler($handler, 'outage', 'down at start');

# killed under load, for longer than the buffer lasts, and back
foreach my $how ('kill', 'stop')
{
	$position = $node->log_position;
	$writers = $oracle->start_writers(clients => 4, rate => 500);
	my $before = $oracle->committed_count;
	wait_until(sub { $oracle->committed_count > $before + 200 }, 'the writers to write');
	$kafka->$how;
	$before = $oracle->committed_count;
	$node->wait_relay_state('connecting');
	# far more than the buffer holds
	wait_until(sub { $oracle->committed_count > $before + 2500 }, 'commits to go on while Kafka is away');
	cmp_ok(rss_mb('relay'), '<', 100, "$how: memory of the relay is bounded");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^durable_event' AND backend_xmin IS NOT NULL}),
		'0', "$how: no snapshot is held while Kafka is away");
	$kafka->start;
	$writers->stop;
	$node->wait_relay_state('running');
	ok($node->flush, "$how: flush once Kafka is back");
	# what was in flight when it went may be there twice
	$oracle->check_kafka($kafka, $how);
	$oracle->check_handler($handler, 'outage', $how);

	my @lines = grep { /LOG:|WARNING:|ERROR:/ && /durable_event|Kafka|relay/ && !/statement:|consumer group|proxy/ }
	  split /\n/, $node->log_since($position);
	cmp_ok(scalar(@lines), '<=', 3, "$how: the log tells of the outage and of its end, once")
	  or diag join("\n", @lines);
	cmp_ok(scalar(@lines), '>=', 2, "$how: it does tell");
}

# immediate shutdown with the broker down
$kafka->kill;
$node->publish('oracle_0', '1', { entity => 1, version => -1 });
$elapsed = time;
$node->stop('immediate');
cmp_ok(time - $elapsed, '<=', 5, 'immediate shutdown within seconds with the broker down');

done_testing();
