# G2: indexes of a segment are made and rebuilt while a publisher stands in the midst of its commit.
#
# Guards against: rows that are not in an index which its maker takes for complete.  A publisher
# makes entries in the indexes that it saw when it locked the segment; whoever adds one must wait
# for it.  Reading goes through the index on id: what is not there is never sent.

use strict;
use warnings;

use DurableEvent::Node;
use Test::More;

my $node = DurableEvent::Node->create('main');
plan skip_all => 'a build without kill points' unless $node->has_kill_points;

my %sessions = map { $_ => $node->background_psql('postgres', timeout => 60) } qw(publisher operator);
$node->publish('t', 'before', {});

foreach my $command (
	'REINDEX INDEX CONCURRENTLY durable_event.outbox_0_id_idx',
	'CREATE INDEX CONCURRENTLY by_key ON durable_event.outbox_0 (key)',
	'REINDEX TABLE CONCURRENTLY durable_event.outbox_0',
	'DROP INDEX CONCURRENTLY durable_event.by_key')
{
	my ($name) = $command =~ /^(\w+ \w+)/;

	# ids are drawn, the row is not inserted yet
	$node->arm('commit-after-mark', 'hold');
	$sessions{publisher}->query_until(qr/publishing/,
		"\\echo publishing\nSELECT durable_event.publish_event('t', '$name', '{}');\n");
	$node->wait_hit('commit-after-mark');
	$sessions{operator}->query_until(qr/building/, "\\echo building\n$command;\n");
	$node->wait_query(
		"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '$name%'",
		"\"$name\" to wait for the publisher", '1');
	$node->release('commit-after-mark');
	$sessions{publisher}->query('SELECT 1');
	$sessions{operator}->query('SELECT 1');
	$node->publish('t', "$name later", {});
	foreach my $key ($name, "$name later")
	{
		is($node->safe_psql('postgres', <<"SQL"), "$key|$key", "\"$key\" is in each index");
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT
	(SELECT convert_from(key, 'UTF8') FROM durable_event.outbox_0
		WHERE id = (SELECT id FROM durable_event.outbox WHERE key = '$key')),
	(SELECT convert_from(key, 'UTF8') FROM durable_event.outbox_0
		WHERE key = convert_to('$key', 'UTF8'));
SQL
	}
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM durable_event.outbox'), '9', 'nothing is missing');
$_->quit foreach values %sessions;
$node->stop('fast');
done_testing();
