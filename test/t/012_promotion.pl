# Failover: a hot standby runs proxies of its own, and takes over the relay at its promotion.
# Nothing that was replicated is lost, order holds, ids go on above those of the old primary.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my ($primary, $kafka, $handler) = rig(
	'primary',
	settings => { 'durable_event.proxy' => 'standby' });
my $oracle = DurableEvent::Oracle->new($primary, types => 2, entities => 40);
$primary->create_group(
	'promotion',
	event_types => [ $oracle->types ],
	handler_url => $handler->url('/promotion'),
	backoff_max => '1 s');
my $standby = $primary->create_standby('standby');

# the standby runs the groups, and no relay; the primary the other way round
my $writers = $oracle->start_writers(clients => 4, seconds => 3);
$writers->wait;
ok($primary->flush, 'flush on the primary');
$oracle->check_handler($handler, 'promotion', 'proxy on the standby');
is($standby->worker_pid('relay') // 'none', 'none', 'no relay on the standby');
is($primary->worker_pid('proxy') // 'none', 'none', 'no proxy on the primary');
my ($result, $stdout, $stderr) =
  $standby->psql('postgres', q{SELECT durable_event.publish_event('t', 'k', '{}')});
like($stderr, qr/cannot publish an event during recovery/, 'publishing on the standby is refused');
($result, $stdout, $stderr) = $standby->psql('postgres', 'SELECT durable_event.flush()');
like($stderr, qr/cannot flush the outbox during recovery/, 'so is flush()');

# a changed registration comes through WAL
my $requests = scalar $handler->requests(path => '/moved');
$primary->update_group('promotion', handler_url => $handler->url('/moved'));
$primary->wait_for_catchup($standby);
$writers = $oracle->start_writers(clients => 2, seconds => 2);
$writers->wait;
wait_until(sub { scalar $handler->requests(path => '/moved') > $requests },
	'the standby to notice the changed handler');
pass('a changed registration reaches the standby');

# fail over under load
$writers = $oracle->start_writers(clients => 4);
my $before = $oracle->committed_count;
wait_until(sub { $oracle->committed_count > $before + 200 }, 'the writers to write');
$writers->stop;
$primary->wait_for_catchup($standby);
my $last = $primary->safe_psql('postgres', 'SELECT drawn_id FROM durable_event.stat_relay');
$primary->stop('immediate');
$standby->reconfigure('durable_event.proxy' => 'any');
$standby->promote;
$standby->wait_relay_state('running');
$standby->publish('oracle_0', '0', { entity => 0, version => 0 });
ok($standby->flush, 'flush on the promoted standby');
cmp_ok($standby->safe_psql('postgres', q{SELECT max(id) FROM durable_event.outbox}), '>', $last,
	'ids go on above those of the old primary');
cmp_ok($standby->safe_psql('postgres', q{SELECT max(id) FROM durable_event.outbox}) - $last, '>', 2**31,
	"with a gap for those that were not replicated");

# the writers go on with the new primary
$oracle->{node} = $standby;
$standby->safe_psql('postgres', q{INSERT INTO oracle.committed
	SELECT event_id, event_type, 0, 0 FROM durable_event.outbox WHERE key = '0'});
$writers = $oracle->start_writers(clients => 4, seconds => 3);
$writers->wait;
ok($standby->flush, 'flush after more load');
$oracle->check_kafka($kafka, 'after promotion');
$oracle->check_handler($handler, 'promotion', 'after promotion');

$standby->stop;
done_testing();
