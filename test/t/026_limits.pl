# Records and bodies beyond a limit, and records that cannot be read.
#
# Guards against: one record of a stranger that ends the worker, and so every group, again and
# again; a record passed over, and its offset committed, because it is too large or the library
# skips it; a body larger than batch_max_bytes, which a handler would refuse for ever.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use DurableEvent::Handler;
use DurableEvent::Kafka;
use DurableEvent::Node;
use DurableEvent::Util qw(wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = DurableEvent::Kafka->new;    # its files are damaged
my $handler = DurableEvent::Handler->new;
my $node = DurableEvent::Node->create(
	'main',
	kafka => $kafka,
	settings => {
		'durable_event.proxy' => 'primary',
		'durable_event.topic_partitions' => 1,
		'durable_event.max_record_size' => '1MB',
		'durable_event.kafka_config' => 'check.crcs=true'
	});

sub group_column
{
	my ($name, $column) = @_;
	return $node->safe_psql('postgres',
		"SELECT $column FROM durable_event.stat_group WHERE group_name = '$name'");
}

sub foreign_group
{
	my ($name, $partitions) = @_;
	my $topic = $node->topic($name);
	$kafka->create_topic($topic, $partitions);
	$node->create_group(
		$name,
		topics => [$topic],
		handler_url => $handler->url("/$name"),
		backoff_min => '5 ms',
		backoff_max => '20 ms');
	return $topic;
}

# ---- a key of 95 MB that needs more than 1 GB when it is encoded

my $topic = foreign_group('huge', 2);
$node->create_group('healthy', event_types => ['e'], handler_url => $handler->url('/healthy'));
$kafka->produce($topic, [ { payload => '{"n":1}' }, { payload => '{"n":1}', partition => 1 } ]);
my $position = $node->log_position;
my $pid = $node->worker_pid('proxy');
# to the broker it is small: compressed
$kafka->produce_large($topic, 0, 95_000_000);
$kafka->produce($topic, [ { payload => '{"n":2}' }, { payload => '{"n":2}', partition => 1 } ]);
$node->wait_group_state('huge', 'blocked');
$node->publish('e', "k$_", { n => $_ }) foreach 1 .. 10;
$handler->wait_for_events(10, group => 'healthy', acknowledged => 1);
pass('a group beside it is served');
is($node->worker_pid('proxy'), $pid, 'by the same process');
$handler->wait_for_events(3, group => 'huge', acknowledged => 1);
wait_until(sub { ($kafka->committed($node->group_id('huge'))->{"$topic 1"} // 0) == 2 },
	'the other partition to go on');
is($kafka->committed($node->group_id('huge'))->{"$topic 0"}, 1,
	'the offset of the record is not passed');
is($handler->stats->{groups}{huge}{events}, 3, 'nothing behind it is delivered');
like(
	group_column('huge', 'last_error'),
	qr/record at offset 1 of topic "\Q$topic\E" partition 0 has 95000001 bytes, more than durable_event\.max_record_size/,
	'last_error names it');
my $log = $node->log_since($position);
is(scalar(() = $log =~ /a partition of consumer group "huge" is blocked/g), 1, 'one line in the log');
unlike($log, qr/ERROR|FATAL|PANIC|TRAP|out of memory/, 'no error');
$node->drop_group('huge');

# ---- a limit that is raised

$topic = foreign_group('raised', 1);
$kafka->produce_large($topic, 0, 2_000_000);
$kafka->produce($topic, [ { payload => '{"n":2}' } ]);
$node->wait_group_state('raised', 'blocked');
$node->reconfigure('durable_event.max_record_size' => '4MB');
$handler->wait_for_events(2, group => 'raised', acknowledged => 1);
pass('a raised limit is taken, and the record delivered');
$node->wait_group_state('raised', 'running');
$node->drop_group('raised');

# ---- headers that the library does not read: the record would go without its identity

$topic = foreign_group('headers', 1);
$kafka->produce_large($topic, 0, 10, 100_001);
$node->wait_group_state('headers', 'blocked');
like(group_column('headers', 'last_error'),
	qr/topic "\Q$topic\E" partition 0 cannot be read from offset 0 on: its headers cannot be read/,
	'a record with 100,001 headers is not taken for one without');
$node->drop_group('headers');

# ---- bodies no larger than a handler takes

my $limit = 20_000;
$node->create_group(
	'bodies',
	event_types => ['b'],
	handler_url => $handler->url('/bodies'),
	batch_max_bytes => $limit,
	enabled => 'false');
# from 1 to 8 kB, so that what is left of a body is often too little; one that fits into none
$node->safe_psql('postgres',
	q{SELECT durable_event.publish_event('b', 'k',
			jsonb_build_object('n', i, 'fill', repeat('x', CASE i WHEN 200 THEN 30000 ELSE 1000 + i * 7919 % 7000 END)))
		FROM generate_series(1, 400) i});
ok($node->flush, 'published');
$node->update_group('bodies', enabled => 'true');
$handler->wait_for_events(400, group => 'bodies', acknowledged => 1);
my @requests = $handler->requests(group => 'bodies');
my @large = grep { $_->{headers}{'content-length'} > $limit } @requests;
is(scalar @large, 1, 'one body exceeds batch_max_bytes');
is(scalar @{ $large[0]{body} }, 1, 'with the one event that does alone');
cmp_ok(scalar @requests, '<', 150, 'others are filled');
is_deeply(
	[ map { $_->{data}{n} } map { @{ $_->{body} } } @requests ],
	[ 1 .. 400 ],
	'each event once, in order');
$node->drop_group('bodies');

# ---- memory that events wait in for the next body

# such an event alone takes more than all bodies may; it must not wait for memory to be sent with
$node->reconfigure('durable_event.proxy_memory' => '1MB');
$node->create_group(
	'tight',
	event_types => ['t'],
	handler_url => $handler->url('/tight'),
	batch_max_bytes => $limit,
	enabled => 'false');
$node->safe_psql('postgres',
	q{SELECT durable_event.publish_event('t', 'k',
			jsonb_build_object('n', i, 'fill', repeat('x', CASE i % 2 WHEN 0 THEN 700000 ELSE 10 END)))
		FROM generate_series(1, 8) i});
ok($node->flush, 'published');
$node->update_group('tight', enabled => 'true');
$handler->wait_for_events(8, group => 'tight', acknowledged => 1);
pass('events that take all memory while they wait are delivered');
$node->drop_group('tight');

# ---- records that the library skips

$topic = foreign_group('damaged', 1);
$kafka->produce($topic, [ map { { payload => qq({"n":$_}) } } 1 .. 3 ]);
$handler->wait_for_events(3, group => 'damaged', acknowledged => 1);
wait_until(sub { ($kafka->committed($node->group_id('damaged'))->{"$topic 0"} // 0) == 3 },
	'what can be read to be committed');
$node->update_group('damaged', enabled => 'false');
$node->wait_query(q{SELECT count(*) FROM durable_event.stat_group WHERE group_name = 'damaged'},
	'the group to leave', 0);
$kafka->produce($topic, [ map { { payload => qq({"mark":"damage-$_"}) } } 4 .. 6 ]);
$kafka->stop;
my ($segment) = glob($kafka->dir . "/data/$topic-0/00000000000000000000.log");
($segment) = split /\n/, `find @{[ $kafka->dir ]} -path '*/$topic-0/00000000000000000000.log'`
  unless defined $segment;
open(my $file, '+<:raw', $segment) or die "$segment: $!\n";
my $bytes = do { local $/; <$file> };
my $at = index($bytes, 'damage-5');
cmp_ok($at, '>', 0, 'a record in its file');
seek($file, $at, 0);
print $file 'd@mage';
close($file);
$kafka->start;
$position = $node->log_position;
$node->update_group('damaged', enabled => 'true');
$node->wait_group_state('damaged', 'blocked');
$handler->wait_for_events(4, group => 'damaged', acknowledged => 1);
wait_until(sub { ($kafka->committed($node->group_id('damaged'))->{"$topic 0"} // 0) == 4 },
	'what can be read to be committed');
like(group_column('damaged', 'last_error'),
	qr/topic "\Q$topic\E" partition 0 cannot be read from offset 4 on: .*CRC/,
	'last_error names what cannot');
$node->publish('e', 'k', { n => 11 });
$handler->wait_for_events(11, group => 'healthy', acknowledged => 1);
is($handler->stats->{groups}{damaged}{events}, 4, 'nothing behind it is delivered');
is($kafka->committed($node->group_id('damaged'))->{"$topic 0"}, 4, 'nor committed');
like($node->log_since($position), qr/a partition of consumer group "damaged" is blocked/, 'the log says so');

$node->stop('fast');
$kafka->stop;
done_testing();
