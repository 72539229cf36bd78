# The library forgets what it knows of a topic: when Kafka is away for long, or metadata.max.age.ms is
# short.  It asks for the partitions of what it is given meanwhile later, on a thread of its own.
#
# Guards against: a record in the partition that was chosen for another one; a topic that takes no
# event any more, because one came back from another partition than it was counted for.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use DurableEvent::Broker;
use DurableEvent::Node;
use DurableEvent::Util qw(json_decode run_ok wait_until);
use Test::More;
use Time::HiRes qw(time);

my $broker = DurableEvent::Broker->new('-n', 1, '-t', 'events:8');
my $node = DurableEvent::Node->create(
	'main',
	bootstrap => $broker->bootstrap,
	settings => { 'durable_event.kafka_config' => 'metadata.max.age.ms=1500' });
my $published = 0;

sub sql { return $node->safe_psql('postgres', @_); }

sub publish
{
	my ($n) = @_;
	my $from = $published + 1;
	$published += $n;
	sql("SELECT count(durable_event.publish_event('thing', 'k' || n % 40, jsonb_build_object('n', n))) FROM generate_series($from, $published) n");
	return;
}

sql(q{INSERT INTO durable_event.event_type (name, topic) VALUES ('thing', 'events')});
publish(200);
ok($node->flush, 'the topic takes events');

# the library asks anew every 1.5 s, and waits for the answer
$broker->command('rtt 100');
my $end = time + 6;
wait_until(sub { publish(20); return time > $end; }, 'events under way at each moment');
$broker->command('rtt 0');
ok($node->flush(20), 'flush');

# longer than a partition is taken to be proven
my $quiet = time + 11;
wait_until(sub { time > $quiet }, 'silence');
foreach my $round (1, 2)
{
	publish(400);
	ok($node->flush(15), 'and it takes more');
}

my (%partition, %last, %seen, @moved, @overtaken);
foreach my $line (split /\n/, run_ok('kcat', '-b', $broker->bootstrap, '-C', '-t', 'events', '-e', '-q', '-f', '%p %k %s\n'))
{
	my ($partition, $key, $payload) = split / /, $line, 3;
	my $n = json_decode($payload)->{n};
	push @moved, "$n in $partition, others of $key in $partition{$key}"
	  if $partition ne ($partition{$key} //= $partition);
	next if $seen{$n}++;
	push @overtaken, $n if $n < ($last{$key} // 0);
	$last{$key} = $n;
}
is(scalar keys %seen, $published, 'all are there');
is_deeply(\@moved, [], 'every key in its partition');
is_deeply(\@overtaken, [], 'in order');

$node->stop('fast');
done_testing();
