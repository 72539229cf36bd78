# Topics: made as event_type and the settings say, named by prefix, shared to keep one order; what
# Kafka refuses for good.
#
# Guards against: the broker's auto-creation winning (one partition, no configuration), a setting
# or a row of event_type that is not applied, or not while the relay runs, an order lost between
# types that share a topic, a property that breaks the guarantees accepted from kafka_config, and
# a refused event that is skipped, overtaken, or stops the relay without saying which it is, and an
# event that was accepted and is larger in Kafka than it was counted.

use strict;
use warnings;

use DurableEvent::Kafka;
use DurableEvent::Node;
use DurableEvent::Util qw(json_decode wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = DurableEvent::Kafka->shared;
my $node = DurableEvent::Node->create('main', kafka => $kafka);
my $prefix = $node->topic('');

sub sql { return $node->safe_psql('postgres', @_); }

# Is such a line in the log since that position?
sub logged
{
	my ($position, $pattern) = @_;
	my $n = () = $node->log_since($position) =~ /$pattern/g;
	return $n;
}

# ---- as event_type says

sql(<<"SQL");
INSERT INTO durable_event.event_type (name, partitions, replication_factor, topic_config)
	VALUES ('wide', 7, 1, '{"retention.ms": 86400000, "cleanup.policy": "compact", "delete.retention.ms": null}');
SQL
wait_until(sub { $kafka->topics->{"${prefix}wide"} }, 'the registered topic to be made');
is($kafka->topics->{"${prefix}wide"}, 7, 'a registered topic is made before its first event');
is_deeply(
	$kafka->topic_config("${prefix}wide"),
	{ 'retention.ms' => '86400000', 'cleanup.policy' => 'compact' },
	'with its configuration');

$node->publish('wide', "k$_", {}) foreach 1 .. 3;
$node->publish('plain', 'k', { n => 1 });
ok($node->flush, 'published');
is($kafka->topics->{"${prefix}plain"}, 4, 'other topics have the default of topic_partitions');
is_deeply($kafka->topic_config("${prefix}plain"), {}, 'and no configuration');

$node->reconfigure('durable_event.topic_partitions' => 3);
wait_until(sub { sql('SHOW durable_event.topic_partitions') eq '3' }, 'reload');
# settings of the relay may come a moment later than ours
wait_until(
	sub {
		$node->publish("three_$_[0]", 'k', {}) foreach ++our $round;
		$node->publish("three_$round", 'k', {});
		$node->flush;
		$kafka->topics->{"${prefix}three_$round"} == 3;
	},
	'topics of three partitions');
pass('topic_partitions changed by SIGHUP');
is($kafka->count("${prefix}wide"), 3, 'nothing is lost in a topic that was made beforehand');

# a topic that is there already stays as it is
$kafka->create_topic("${prefix}existing", 2, 'retention.ms=1000000');
$node->publish('existing', 'k', {});
ok($node->flush, 'published to an existing topic');
is($kafka->topics->{"${prefix}existing"}, 2, 'which keeps its partitions');

# ---- a shared topic keeps one order

sql(<<"SQL");
INSERT INTO durable_event.event_type (name, topic, partitions)
	VALUES ('order_placed', '${prefix}orders', 2), ('order_paid', '${prefix}orders', NULL);
SELECT durable_event.publish_event(CASE WHEN i % 3 = 0 THEN 'order_paid' ELSE 'order_placed' END,
	'order ' || i % 5, jsonb_build_object('n', i)) FROM generate_series(1, 300) i;
SQL
ok($node->flush, 'orders are published');
is($kafka->topics->{"${prefix}orders"}, 2, 'the shared topic is made once');
my %order;
push @{ $order{"$_->{partition} $_->{key}"} }, json_decode($_->{payload})->{n}
  foreach $kafka->consume("${prefix}orders");
is_deeply(
	[ sort { $a->[0] <=> $b->[0] } values %order ],
	[ map { my $key = $_; [ grep { $_ % 5 == $key % 5 } 1 .. 300 ] } 1 .. 5 ],
	'types that share a topic keep one order');
is_deeply([ grep { /order_p/ } keys %{ $kafka->topics } ], [], 'and have no topics of their own');

# ---- a prefix per database

sql('CREATE DATABASE tenant');
sql("ALTER DATABASE tenant SET durable_event.topic_prefix = '${prefix}tenant.'");
$node->reconfigure('durable_event.databases' => 'postgres, tenant');
$node->safe_psql('tenant', 'CREATE EXTENSION durable_event');
$node->publish('plain', 'k', { n => 'tenant' }, undef, 'tenant');
ok($node->flush(undef, 'tenant'), 'published in a database with a prefix of its own');
is($kafka->count("${prefix}tenant.plain"), 1, 'to topics with that prefix');
is($kafka->count("${prefix}plain"), 1, 'and not to the others');

# ---- event_type changed while the relay runs

sql("INSERT INTO durable_event.event_type (name, topic) VALUES ('plain', '${prefix}elsewhere')");
wait_until(
	sub {
		$node->publish('plain', 'k', { n => 2 });
		$node->flush;
		$kafka->count("${prefix}elsewhere");
	},
	'events of the type in its new topic');
my $before = $kafka->count("${prefix}plain");
$node->publish('plain', 'k', { n => 3 });
$node->flush;
is($kafka->count("${prefix}plain"), $before, 'a registration is applied by a running relay');
sql("DELETE FROM durable_event.event_type WHERE name = 'plain'");
wait_until(
	sub {
		$node->publish('plain', 'k', { n => 4 });
		$node->flush;
		$kafka->count("${prefix}plain") > $before;
	},
	'events of the type in its default topic');
pass('and taken back');

# ---- names that Kafka takes for one: of registered types they are refused when published

$node->publish('split.name', 'k', { n => 1 });
ok($node->flush, 'a type that is not registered');
$node->publish('split_name', 'k', { n => 2 });
$node->wait_query("SELECT last_error LIKE '%${prefix}split\\_name%' FROM durable_event.stat_relay",
	'last_error to name the topic that cannot be made');
sql("INSERT INTO durable_event.event_type (name, topic) VALUES ('split_name', '${prefix}split-name')");
ok($node->flush, 'its event is sent when its type is given another topic');
is($kafka->count("${prefix}split-name"), 1, 'to that one');
is($kafka->count("${prefix}split.name"), 1, 'and not to the other');

# ---- kafka_config

# The compression of a partition's last batch as the broker's log has it: 0 none, 1 gzip, 3 lz4.
sub codec
{
	my ($record) = @_;
	my $log = slurp_file(
		$kafka->dir . "/data/$record->{topic}-$record->{partition}/00000000000000000000.log");
	my $codec;
	while (length $log > 61)
	{
		my ($length, $attributes) = (unpack('x8 N', $log), unpack('x21 n', $log));
		$codec = $attributes & 7;
		$log = substr($log, 12 + $length);
	}
	return $codec;
}
my $position = $node->log_position;
$node->reconfigure('durable_event.kafka_config' => 'compression.type=gzip');
wait_until(
	sub {
		$node->publish('packed', 'k', { text => 'x' x 3000 });
		$node->flush;
		codec(($kafka->consume("${prefix}packed"))[-1]) == 1;
	},
	'batches packed with gzip');
pass('kafka_config is applied by SIGHUP');

foreach my $case (
	[ 'acks=1', qr/property "acks" cannot be set .*guarantees depend/ ],
	[ 'bootstrap.servers=x', qr/property "bootstrap\.servers" cannot be set .*durable_event\.bootstrap_servers/ ],
	[ 'no.such.property=1', qr/"no\.such\.property"/ ],
	[ 'linger.ms=abc', qr/linger\.ms/ ],
	[ 'sasl.password.file=/nonexistent/file', qr/file of "sasl\.password" .*No such file/ ])
{
	my ($property, $expected) = @$case;
	$position = $node->log_position;
	$node->reconfigure('durable_event.kafka_config' => $property);
	my $error = '';
	eval {
		wait_until(
			sub { ($error = sql('SELECT last_error FROM durable_event.stat_relay')) =~ $expected },
			"$property to be refused", 20);
	};
	like($error, $expected, "kafka_config: $property is refused and named in last_error");
	$node->wait_relay_state('connecting');
	is($node->publish('plain', 'k', { n => 5 }) ne '' && $node->flush(0), '', 'nothing is sent so');
	like($node->log_since($position), $expected, 'and in the log')
	  if $property eq 'acks=1';
	$node->reconfigure('durable_event.kafka_config' => '');
	$node->wait_relay_state('running');
	ok($node->flush, 'without it the relay goes on');
}
# a password from a file: the library takes it, and the setting names the file only
my $password_file = $node->basedir . '/password';
append_to_file($password_file, "secret\n");
$node->reconfigure('durable_event.kafka_config' => "sasl.username=me, sasl.password.file=$password_file, compression.type=lz4");
$node->wait_relay_state('running');
$node->publish('plain', 'k', { n => 6 });
ok($node->flush, 'a password may stand in a file');
$node->reconfigure('durable_event.kafka_config' => '');

my ($result, $out, $error) = $node->psql('postgres', "ALTER SYSTEM SET durable_event.kafka_config = 'acks'");
like($error, qr/ERROR.*kafka_config.*Element 1 is not of the form key=value/s,
	'what is no property at all is refused at once');

# ---- partitions that somebody adds

$node->reconfigure('durable_event.kafka_config' => 'topic.metadata.refresh.interval.ms=500');
sql(q{INSERT INTO durable_event.event_type (name, partitions) VALUES ('growing', 1)});
sub publish_growing
{
	my ($from, $to) = @_;
	sql("SELECT count(durable_event.publish_event('growing', 'k' || n % 20, jsonb_build_object('n', n))) FROM generate_series($from, $to) n");
	return;
}
publish_growing(1, 100);
ok($node->flush, 'published to one partition');
$position = $node->log_position;
$kafka->grow_topic("${prefix}growing", 4);
my $n = 100;
wait_until(
	sub {
		publish_growing($n + 1, $n + 100);
		$n += 100;
		return logged($position, qr/LOG: .*topic "\Q${prefix}\Egrowing" has 4 partitions now instead of 1/);
	},
	'the others to be noticed');
publish_growing($n + 1, $n + 100);
ok($node->flush, 'published to more of them');
my (%partitions, @disordered);
foreach my $record ($kafka->consume("${prefix}growing"))
{
	my $seen = $partitions{ $record->{key} } //= {};
	my $m = json_decode($record->{payload})->{n};
	push @disordered, "$m after $seen->{ $record->{partition} }"
	  if $m < ($seen->{ $record->{partition} } // 0);
	$seen->{ $record->{partition} } = $m;
}
is_deeply(\@disordered, [], 'each key in order');
cmp_ok(scalar(grep { keys %$_ > 1 } values %partitions), '>', 5, 'keys have moved');
# what went to the first partition comes before all that went to another one
is_deeply(
	[ grep { my $p = $_; keys %$p > 1 && grep { $_ != 0 && $p->{$_} < $p->{0} } keys %$p } values %partitions ],
	[], 'and none has gone back');
$node->reconfigure('durable_event.kafka_config' => '');

# ---- a topic that cannot be made

$position = $node->log_position;
sql(<<'SQL');
INSERT INTO durable_event.event_type (name, partitions, replication_factor) VALUES ('impossible', 1, 3);
BEGIN;
SELECT durable_event.publish_event('impossible', 'k', '{"n": 1}');
SELECT durable_event.publish_event('beside', 'k', jsonb_build_object('n', n)) FROM generate_series(1, 100) n;
SELECT durable_event.publish_event('impossible', 'k', '{"n": 2}');
COMMIT;
SQL
my ($impossible) = sql(q{SELECT min(id) FROM durable_event.outbox WHERE event_type = 'impossible'});
wait_until(sub { ($kafka->topics->{"${prefix}beside"} // 0) && $kafka->count("${prefix}beside") == 100 },
	'the events of another type');
pass('others do not wait for it');
$node->wait_query(
	"SELECT last_error LIKE 'could not create topic \"${prefix}impossible\" for event $impossible: %' FROM durable_event.stat_relay",
	'last_error to name topic and event');
$node->wait_relay_state('connecting');
is(sql('SELECT acked_id FROM durable_event.stat_relay'), $impossible - 1, 'what waits does not count as acknowledged');
sql("UPDATE durable_event.event_type SET replication_factor = 1 WHERE name = 'impossible'");
ok($node->flush, 'flush once it can be made');
is(join(' ', map { json_decode($_->{payload})->{n} } $kafka->consume("${prefix}impossible")),
	'1 2', 'its events are there in order');
is($kafka->count("${prefix}beside"), 100, 'those of the other once');
$node->wait_relay_state('running');
is(logged($position, qr/could not send events to Kafka/), 1, 'one line when it begins');
is(logged($position, qr/events reach Kafka again/), 1, 'one when it is over');

# ---- an event that the topic refuses

sql(<<"SQL");
INSERT INTO durable_event.event_type (name, partitions, topic_config)
	VALUES ('small', 1, '{"max.message.bytes": "3000"}');
SQL
wait_until(sub { $kafka->topics->{"${prefix}small"} }, 'the topic with the limit');
$node->publish('small', 'k', { n => 1 });
$node->publish('bystander', 'k', { n => 1 });
ok($node->flush, 'small events are taken');
$position = $node->log_position;
# not compressible to less than the limit
my $big = sql(<<'SQL');
BEGIN;
SELECT durable_event.publish_event('small', 'k', '{"n": 2}');
SELECT durable_event.publish_event('bystander', 'k', '{"n": 2}');
SELECT durable_event.publish_event('small', 'k', jsonb_build_object('n', 3,
	'pad', (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 200))));
SELECT durable_event.publish_event('bystander', 'k', '{"n": 4}');
SELECT durable_event.publish_event('small', 'k', '{"n": 4}');
COMMIT;
SQL
my $big_id = sql(<<'SQL');
SELECT id FROM durable_event.outbox WHERE event_type = 'small' AND payload ->> 'n' = '3'
SQL
$node->wait_query(
	"SELECT last_error LIKE 'event $big_id for topic \"${prefix}small\" was refused%' FROM durable_event.stat_relay",
	'last_error to name topic and event');
pass('last_error names the topic and the event');
$node->wait_query("SELECT acked_id = $big_id - 1 FROM durable_event.stat_relay",
	'what is before it to be acknowledged');
pass('what comes before it is sent');
$node->wait_relay_state('connecting');
ok(!$node->flush(1), 'flush() does not pretend');
is(join(' ', map { json_decode($_->{payload})->{n} } $kafka->consume("${prefix}small")),
	'1 2', 'nothing overtakes it in its topic');
is(logged($position, qr/could not send events to Kafka/), 1, 'one line in the log');
# a request is refused as a whole, so it may be another event of it that is named first
like($node->log_since($position), qr/DETAIL: +event \d+ for topic "\Q${prefix}\Esmall" was refused/,
	'which names the topic, too');

$kafka->alter_topic("${prefix}small", 'max.message.bytes=100000');
ok($node->flush, 'with the limit raised it is sent');
$node->wait_relay_state('running');
is(join(' ', map { json_decode($_->{payload})->{n} } $kafka->consume("${prefix}small")),
	'1 2 3 4', 'all of them once and in order');
my %first;
my @bystanders = grep { !$first{ $_->{headers}{ce_id} }++ } $kafka->consume("${prefix}bystander");
is(join(' ', map { json_decode($_->{payload})->{n} } @bystanders), '1 2 4',
	'as those of another topic');
is(logged($position, qr/events reach Kafka again/), 1, 'the log says that it goes on');
is(logged($position, qr/could not send events to Kafka/), 1, 'still one line for all attempts');

# ---- what is accepted when published fits a topic of that size

my $long = DurableEvent::Node->create('long', kafka => $kafka, prefix => $node->topic('long'),
	source => 'urn:' . 'x' x 251,
	settings => { 'durable_event.max_event_size' => '64kB',
		'durable_event.kafka_config' => 'compression.codec=none' });
my $type = 't' x (249 - length $long->topic(''));
$long->safe_psql('postgres', <<"SQL");
INSERT INTO durable_event.event_type (name, partitions, topic_config)
	VALUES ('$type', 1, '{"max.message.bytes": "65536"}');
CREATE FUNCTION publish(size int, headers jsonb) RETURNS uuid LANGUAGE sql AS
\$\$
	SELECT durable_event.publish_binary_event('$type', repeat('k', 1000), decode(repeat('00', size), 'hex'),
		'text/' || repeat('x', 250), headers)
\$\$;
SQL
foreach my $headers ('NULL', q({"traceparent": ""}), '(SELECT jsonb_object_agg(i, i) FROM generate_series(100, 299) AS i)')
{
	my $given = $headers =~ /^\{/ ? "'$headers'" : $headers =~ s/agg\(i, i\)/agg(i, i::text)/r;
	my (undef, undef, $stderr) = $long->psql('postgres', "SELECT publish(70000, $given)");
	my ($takes) = $stderr =~ /It takes (\d+) bytes/;
	$long->safe_psql('postgres', 'SELECT publish(' . (70000 - ($takes - 65536)) . ", $given)");
	ok($long->flush(20), "an event of exactly max_event_size is taken by Kafka, headers: $headers");
}
is($kafka->count($long->topic($type)), 3, 'and no other');
$long->stop('fast');

$node->stop('fast');
done_testing();
