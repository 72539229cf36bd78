# G5: nothing is produced that a crash of this server could take back.  An asynchronous commit is
# visible before it is on disk; the relay flushes up to it before it reads.  Without that, a server
# killed right after the event is in Kafka comes back without the event's transaction, and gives
# the event's id to another one.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my ($node, $kafka) = rig(
	'durable',
	handler => 0,
	settings => {
		'synchronous_commit' => 'off',
		# the WAL writer must not happen to be in time
		'wal_writer_delay' => '10s',
		'wal_writer_flush_after' => '1GB'
	});
my $topic = $node->topic('phantom');
my $sent = 0;
$node->safe_psql('postgres', 'CREATE TABLE business (round int)');
$node->publish('phantom', 'k', { round => 0 });
$sent++;
$node->flush;
# these settings must survive; so must the table
$node->safe_psql('postgres', 'CHECKPOINT');

foreach my $round (1 .. 5)
{
	$node->safe_psql(
		'postgres', qq{BEGIN;
INSERT INTO business VALUES ($round);
SELECT durable_event.publish_event('phantom', 'k', '{"round": $round}');
COMMIT;});
	$sent++;
	$kafka->wait_for_records($topic, $sent);
	$node->kill9_and_start;
	is($node->safe_psql('postgres', "SELECT count(*) FROM business WHERE round = $round"),
		'1', "round $round: what is in Kafka was committed for good");
}
$node->wait_relay_state('running');
$node->flush;
my %ids;
push @{ $ids{ $_->{headers}{ce_sequence} } }, $_->{headers}{ce_id} foreach $kafka->consume($topic);
foreach my $sequence (sort keys %ids)
{
	my %distinct = map { $_ => 1 } @{ $ids{$sequence} };
	is(scalar(keys %distinct), 1, "id $sequence was given to one event only");
}
$node->stop;
done_testing();
