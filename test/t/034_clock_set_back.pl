# The server's clock is set back by an hour while events are published, sent and delivered.
#
# Guards against: waits that last until the hour has come again; events ordered, skipped or kept by
# the time that they were made at; negative ages.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;
use Time::HiRes qw(time);

my $shift = test_dir() . '/clock/shift.so';
foreach my $obstacle (
	[ !-e $shift, "$shift is not built: make test-programs" ],
	[ $ENV{DE_TEST_SANITIZE}, 'a sanitizer must be loaded first' ])
{
	my ($there, $what) = @$obstacle;
	next unless $there;
	die "$what\n" if $ENV{DE_TEST_REQUIRED} && !$ENV{DE_TEST_SANITIZE};
	plan skip_all => $what;
}
my $file = PostgreSQL::Test::Utils::tempdir() . '/clock';

# by seconds
sub set_clock
{
	my ($by) = @_;
	# in place: it is mapped
	open(my $clock, -e $file ? '+<:raw' : '>:raw', $file) or die "$file: $!\n";
	print $clock pack('q', $by);
	close($clock) or die "$file: $!\n";
	return;
}

set_clock(0);
my ($node, $kafka, $handler);
{
	local $ENV{LD_PRELOAD} = $shift;
	local $ENV{DE_TEST_CLOCK} = $file;
	($node, $kafka, $handler) = rig(
		'main',
		settings => { 'durable_event.proxy' => 'primary', 'durable_event.topic_partitions' => 1 });
}

sub sql { return $node->safe_psql('postgres', @_); }

# seconds that something took
sub takes
{
	my ($do) = @_;
	my $since = time;
	$do->();
	return time - $since;
}

$node->create_group(
	'steady',
	event_types => ['e'],
	handler_url => $handler->url('/steady'),
	backoff_min => '200 ms',
	backoff_max => '200 ms');
$node->publish('e', 'k', { n => $_ }) foreach 1 .. 5;
ok($node->flush, 'events are sent');
$handler->wait_for_events(5, group => 'steady', acknowledged => 1);
my $position = $node->log_position;

# while somebody waits in flush(), and a refused request to be sent again

sql('SELECT durable_event.pause_relay()');
$node->wait_relay_state('paused');
$node->publish('e', 'k', { n => 6 });
my $session = $node->background_psql('postgres', timeout => 60);
$session->query_until(qr/begun/, "\\echo begun\nSELECT durable_event.flush('2 s');\n");
set_clock(-3600);
cmp_ok(time - sql('SELECT extract(epoch FROM clock_timestamp())'), '>', 3500, 'the clock is set back');
cmp_ok(takes(sub { $session->query_safe('SELECT 1') }), '<', 30, 'flush() ends in time');
$session->quit;
$handler->control({ path => '/steady', status => 500, times => 3 });
sql('SELECT durable_event.resume_relay()');
$node->publish('e', 'k', { n => $_ }) foreach 7 .. 10;
cmp_ok(takes(sub { ok($node->flush(60), 'events are sent') }), '<', 30, 'at once');
cmp_ok(takes(sub { $handler->wait_for_events(10, group => 'steady', acknowledged => 1) }), '<', 30,
	'and delivered, though refused at first');
is_deeply([ map { json_decode($_->{payload})->{n} } $kafka->consume($node->topic('e')) ],
	[ 1 .. 10 ], 'each once, in the order of their commits');
is( sql(
		'SELECT count(*) FROM (SELECT created_at < lag(created_at) OVER (ORDER BY id) AS back FROM durable_event.outbox) AS e WHERE back'
	),
	1,
	'which that of their times is not');
is(sql('SELECT coalesce(lag_seconds, 0) >= 0 AND coalesce(commit_seconds, 0) >= 0 FROM durable_event.stat_relay'),
	't', 'no age is negative');

# what waits for nothing but a time

my $relay = $node->kill_worker('relay', 'TERM');
$node->wait_for_worker('relay', $relay);
$node->publish('new', 'k', {});
cmp_ok(takes(sub { ok($node->flush(60), 'a new relay sends to a new topic') }), '<', 30, 'at once');
$node->reconfigure('durable_event.segment_interval' => '1s', 'durable_event.retention' => 0);
wait_until(
	sub {
		$node->publish('new', 'k', {});
		return sql(q{SELECT count(*) FROM durable_event.outbox WHERE event_type = 'e'}) == 0;
	},
	'segments to be emptied');
pass('segments grow old and are emptied');
unlike($node->log_since($position), qr/ERROR|PANIC/, 'nothing complains');

$node->stop('fast');
done_testing();
