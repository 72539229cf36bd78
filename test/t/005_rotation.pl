# The ring of outbox segments: emptied when published, never before, and blocking nobody.
#
# Guards against: an outbox that grows while everything is published, dead rows, a segment emptied
# under a reader, before its events are acknowledged or before retention has passed, an emptying
# that waits for a lock (and makes publishers queue behind it), events lost or reordered by a
# crash around it, and replicated rows or truncations that touch a subscriber's outbox.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my ($node, $kafka) = rig(
	'main',
	handler => 0,
	settings => {
		'wal_level' => 'logical',
		'durable_event.topic_partitions' => 1,
		'durable_event.segment_size' => '1MB',
		'durable_event.retention' => 0
	});
my $topic = $node->topic('e');

sub sql { return $node->safe_psql('postgres', @_); }

# One transaction of about a megabyte: 700 events numbered from $n on.
my $n = 0;

sub publish_megabyte
{
	sql(qq{SELECT count(durable_event.publish_event('e', 'k',
		jsonb_build_object('n', i, 'pad', repeat(md5(i::text), 40))))
		FROM generate_series($n + 1, $n + 700) i});
	$n += 700;
	return;
}

# Bytes of all segments.
sub size
{
	return sql(q{SELECT sum(pg_total_relation_size(oid)) FROM pg_class
		WHERE relkind = 'r' AND relname LIKE 'outbox\_%' AND relnamespace = 'durable_event'::regnamespace});
}

# The relay has stored progress since, and looked at all segments: after the second time for sure
# with what was stored the first time.
sub looked
{
	foreach (1, 2)
	{
		$node->publish('look', 'k', {});
		ok($node->flush, 'the relay goes on');
		$node->wait_query('SELECT stored_id = acked_id FROM durable_event.stat_relay', 'stored progress');
	}
	return;
}

sub wait_emptied
{
	my ($what) = @_;
	my $size;
	# an idle relay looks from time to time only
	wait_until(
		sub {
			$node->publish('look', 'k', {});
			($size = size()) < 2_000_000;
		},
		sub { "$what, size is $size" });
	pass($what);
	return;
}

# Numbers in Kafka, first occurrences.
sub sent
{
	my %seen;
	return grep { !$seen{$_}++ } map { json_decode($_->{payload})->{n} } $kafka->consume($topic);
}

# ---- bounded

my $largest = 0;
foreach (1 .. 30)
{
	publish_megabyte();
	ok($node->flush, "$_ MB published") if $_ % 10 == 0;
	my $size = size();
	$largest = $size if $size > $largest;
}
wait_emptied('segments are emptied');
note "largest size $largest";
cmp_ok($largest, '<', 20_000_000, 'while 30 MB are published, too');
cmp_ok(sql('SELECT count(*) FROM durable_event.outbox'), '<', 1500, 'what is left is in the current one');
is_deeply([ sent() ], [ 1 .. $n ], 'everything was sent, in order');
is( sql(q{SELECT coalesce(sum(n_dead_tup), 0), coalesce(sum(n_tup_upd + n_tup_del), 0)
		FROM pg_stat_all_tables WHERE relname LIKE 'outbox\_%'}),
	'0|0', 'nothing was updated or deleted, no row is dead');

# ---- readers

sub is_kept_for
{
	my ($name, $query) = @_;
	my $session = $node->background_psql('postgres');

	publish_megabyte();
	$session->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; $query");
	my $before = $session->query_safe('SELECT count(*), sum(id) FROM durable_event.outbox');
	my $files = sql(q{SELECT string_agg(relfilenode::text, ',' ORDER BY relname) FROM pg_class WHERE relname ~ '^outbox_\d$'});
	publish_megabyte() foreach 1 .. 3;
	looked();
	cmp_ok(size(), '>', 4_000_000, "$name keeps segments from being emptied");
	is( sql(q{SELECT string_agg(relfilenode::text, ',' ORDER BY relname) FROM pg_class WHERE relname ~ '^outbox_\d$'}),
		$files, "$name: really none");
	is($session->query_safe('SELECT count(*), sum(id) FROM durable_event.outbox'),
		$before, "$name sees what it saw");
	is(sql(q{SELECT count(*) FROM pg_locks WHERE NOT granted}), '0', "$name: nobody waits");
	$session->query_safe('COMMIT');
	$session->quit;
	wait_emptied("$name: emptied when it has gone");
	return;
}
is_kept_for('an open reader', 'SELECT count(*) FROM durable_event.outbox');
is_kept_for('a session with the locks of pg_dump',
	'LOCK TABLE ' . join(', ', map { "durable_event.outbox_$_" } 0 .. 7) . ' IN ACCESS SHARE MODE');

# a publisher that has not ended is no reader: it holds nothing before its COMMIT
my $publisher = $node->background_psql('postgres');
$publisher->query_safe(qq{BEGIN; SELECT durable_event.publish_event('late', 'k', '{}')});
publish_megabyte() foreach 1 .. 3;
wait_emptied('an open transaction that has published keeps nothing');
$publisher->query_safe('COMMIT');
$publisher->quit;
ok($node->flush, 'its event is sent');
is($kafka->count($node->topic('late')), 1, 'once');

# ---- unsent, or not old enough

sql('SELECT durable_event.pause_relay()');
$node->wait_relay_state('paused');
my $position = sql('SELECT acked_id FROM durable_event.stat_relay');
publish_megabyte() foreach 1 .. 12;
is(sql("SELECT count(*) FROM durable_event.outbox WHERE id > $position"),
	12 * 700, 'more than the ring was meant for is kept while the relay is paused');
$node->restart;
is(sql("SELECT count(*) FROM durable_event.outbox WHERE id > $position"), 12 * 700, 'over a restart, too');
sql('SELECT durable_event.resume_relay()');
ok($node->flush, 'and sent when it is resumed');
is_deeply([ sent() ], [ 1 .. $n ], 'all of it, in order');
wait_emptied('and then emptied');

$node->reconfigure('durable_event.retention' => '1h');
wait_until(sub { sql('SHOW durable_event.retention') eq '1h' }, 'reload');
$position = sql('SELECT drawn_id FROM durable_event.stat_relay');
publish_megabyte() foreach 1 .. 3;
looked();
is(sql("SELECT count(*) FROM durable_event.outbox WHERE id > $position AND event_type = 'e'"),
	3 * 700, 'published events stay for retention');
$node->reconfigure('durable_event.retention' => 0);
wait_emptied('and go with it');

# ---- crashes

foreach my $round (1 .. 3)
{
	publish_megabyte() foreach 1 .. 2;
	wait_emptied("round $round: emptied before the crash") if $round == 1;
	publish_megabyte() if $round == 2;
	$position = sql('SELECT drawn_id FROM durable_event.stat_relay');
	$node->stop('immediate');
	$node->start;
	publish_megabyte();
	cmp_ok(sql('SELECT drawn_id FROM durable_event.stat_relay'),
		'>', $position, "round $round: ids go on after a crash");
}
ok($node->flush, 'published through crashes');
is_deeply([ sent() ], [ 1 .. $n ], 'all is there, in order');
my @sequences = map { $_->{headers}{ce_sequence} } $kafka->consume($topic);
my %seen;
my @first = grep { !$seen{$_}++ } @sequences;
is_deeply(\@first, [ sort @first ], 'as ce_sequence tells');
wait_emptied('and emptied');

# ---- logical replication FOR ALL TABLES

my $subscriber = DurableEvent::Node->create(
	'subscriber',
	kafka => $kafka,
	source => 'urn:subscriber',
	prefix => $node->topic('sub.'));
$subscriber->wait_relay_state('running');
$subscriber->safe_psql('postgres', 'SELECT durable_event.pause_relay()');
$subscriber->wait_relay_state('paused');
$subscriber->publish('own', 'k', { own => $_ }) foreach 1 .. 3;
$_->safe_psql('postgres', 'CREATE TABLE payload (i int PRIMARY KEY)') foreach $node, $subscriber;
publish_megabyte();
sql('CREATE PUBLICATION everything FOR ALL TABLES');
$subscriber->safe_psql('postgres',
	    "CREATE SUBSCRIPTION everything CONNECTION '"
	  . $node->connstr
	  . " dbname=postgres' PUBLICATION everything");
$subscriber->wait_query(
	q{SELECT count(*) > 8, count(*) FILTER (WHERE srsubstate <> 'r') FROM pg_subscription_rel},
	'tables to be copied', 't|0');
# whether it is paused, and of which source, is not for the publisher to say
sql("SELECT durable_event.${_}_relay()") foreach qw(pause resume);
sql('INSERT INTO payload VALUES (1)');
publish_megabyte() foreach 1 .. 3;
ok($node->flush, 'the publisher publishes');
wait_emptied('and empties its segments');
sql('INSERT INTO payload VALUES (2)');
$node->wait_for_catchup('everything');
is($subscriber->safe_psql('postgres', 'SELECT string_agg(i::text, $$ $$ ORDER BY i) FROM payload'),
	'1 2', 'other tables are replicated');
is( $subscriber->safe_psql('postgres',
		'SELECT string_agg(event_type || (payload ->> $$own$$), $$ $$ ORDER BY id) FROM durable_event.outbox'),
	'own1 own2 own3',
	'replicated events and emptying leave the subscriber alone');
is( $subscriber->safe_psql('postgres', q{SELECT count(*) FROM durable_event.outbox WHERE event_type = 'e'}),
	'0', 'no event of the publisher is in its outbox');
is($subscriber->safe_psql('postgres', 'SELECT source, paused FROM durable_event.relay_state'),
	'urn:subscriber|t', "and so is its relay's state");
$subscriber->safe_psql('postgres', 'SELECT durable_event.resume_relay()');
ok($subscriber->flush, 'which sends its own events');
is(join(' ', map { json_decode($_->{payload})->{own} } $kafka->consume($subscriber->topic('own'))),
	'1 2 3', 'and they alone');
is(scalar(grep { /^\Q@{[ $subscriber->topic('') ]}\E/ } keys %{ $kafka->topics }),
	1, 'in their topic');
is_deeply([ sent() ], [ 1 .. $n ], 'the publisher has sent its own once');

$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION everything');
$subscriber->stop('fast');
$node->stop('fast');
done_testing();
