# What the relay costs while Kafka does not answer, and what it takes to move to another cluster.
#
# Guards against: a relay that spins because a topic is due to be asked for again while as many are
# asked for as may be; memory for headers that relay_buffer_size does not count; topics of the
# former cluster taken for those of the new one, so that each event is refused first.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use DurableEvent::Kafka;
use DurableEvent::Node;
use DurableEvent::Util qw(wait_until);
use POSIX qw(sysconf _SC_CLK_TCK _SC_PAGESIZE);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant { BUFFER_MB => 4, TYPES => 48, WAIT => 17 };

my $kafka = DurableEvent::Kafka->new;
my $node = DurableEvent::Node->create(
	'main',
	kafka => $kafka,
	settings => { 'durable_event.relay_buffer_size' => BUFFER_MB . 'MB' });
my $relay = $node->wait_for_worker('relay');

sub sql { return $node->safe_psql('postgres', @_); }

# seconds of CPU of the relay's own thread
sub cpu
{
	my @fields = split / /, slurp_file("/proc/$relay/task/$relay/stat") =~ s/^.*\) //r;
	return ($fields[11] + $fields[12]) / sysconf(_SC_CLK_TCK);
}

# megabytes of the relay that are its own
sub memory
{
	my @fields = split / /, slurp_file("/proc/$relay/statm");
	return ($fields[1] - $fields[2]) * sysconf(_SC_PAGESIZE) / 1024 / 1024;
}

# ---- events with very many headers, and a broker that stands still

$node->publish('plain', 'k', { n => 0 });
ok($node->flush, 'the relay is at work');
my ($memory, $cpu) = (memory(), cpu());
$kafka->freeze;
my $frozen = time;

# more topics than are asked for at once; an answer is due for each until its request times out
sql("INSERT INTO durable_event.event_type (name) SELECT 'type_' || i FROM generate_series(1, @{[TYPES]}) i");

# as many headers as may be, as small as may be
my ($most) = grep {
	my ($result) = $node->psql('postgres', <<"SQL");
SELECT count(durable_event.publish_event('plain', 'k', '{}',
	(SELECT jsonb_object_agg('h' || i, '') FROM generate_series(1, $_) i)))
FROM generate_series(1, 60 * 5000 / $_);
SQL
	$result == 0;
} 5000, 1000, 100;
note "$most headers";
wait_until(sub { time > $frozen + WAIT }, 'the first topics to be asked for again');
$node->wait_query("SELECT read_id > acked_id FROM durable_event.stat_relay", 'events in flight');
cmp_ok(cpu() - $cpu, '<', 2, 'a relay that waits for topics does not spin');
cmp_ok(memory() - $memory, '<', 3 * BUFFER_MB + 8, 'headers count against relay_buffer_size');
$kafka->thaw;
ok($node->flush, 'all of it is sent once Kafka answers');

# ---- to another cluster

sub publish_moved
{
	sql("SELECT count(durable_event.publish_event('moved_' || i, 'k', '{}')) FROM generate_series(1, 12) i");
	return;
}
sql("INSERT INTO durable_event.event_type (name) SELECT 'moved_' || i FROM generate_series(1, 12) i");
publish_moved();
ok($node->flush, 'events of several registered types');
my $other = DurableEvent::Kafka->new;
my $errors = sql('SELECT produce_errors FROM durable_event.stat_relay');
$node->reconfigure('durable_event.bootstrap_servers' => $other->bootstrap);
wait_until(sub { sql('SHOW durable_event.bootstrap_servers') eq $other->bootstrap }, 'reload');
# until the relay has reloaded they may still go to the former one
wait_until(
	sub {
		publish_moved();
		return $node->flush && $other->count($node->topic('moved_1'));
	},
	'events in the other cluster');
cmp_ok($other->count($node->topic('moved_12')), '>=', 1, 'of all types');
is($other->topics->{ $node->topic('moved_1') }, 4, 'in topics that the relay has made there');
is(sql('SELECT produce_errors FROM durable_event.stat_relay'), $errors, 'none was refused first');
is($node->worker_pid('relay'), $relay, 'by the same relay');

$node->stop('fast');
done_testing();
