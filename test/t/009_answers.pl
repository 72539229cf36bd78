# What a handler's answer means, and what is committed of it.
#
# Guards against: an offset that passes an event which no handler acknowledged (G7), because of an
# answer that only looks like success (an ingress page, an empty or torn body), a time-out, a
# refused connection or a restart; order lost by a retry; events delivered again though they were
# acknowledged and committed.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my ($node, $kafka, $handler) = rig(
	'main',
	settings => {
		'durable_event.topic_partitions' => 2
	});
my %defaults = (
	backoff_min => '5 ms',
	backoff_max => '20 ms',
	timeout => '20 s');

sub sql { return $node->safe_psql('postgres', @_); }

sub create_group
{
	my ($name, %columns) = @_;
	$node->create_group(
		$name, %defaults,
		handler_url => $handler->url("/$name"),
		$columns{topics} ? () : (event_types => ['e']),
		%columns);
	return;
}

sub group_column
{
	my ($name, $column) = @_;
	return sql("SELECT $column FROM durable_event.stat_group WHERE group_name = '$name'");
}

# Sum of a group's committed offsets.
sub committed
{
	my ($name) = @_;
	my $offsets = $kafka->committed($node->group_id($name));
	my $sum = 0;
	$sum += $_ foreach grep { $_ > 0 } values %$offsets;
	return $sum;
}

sub wait_committed
{
	my ($name, $n) = @_;
	my $last;
	wait_until(sub { ($last = committed($name)) == $n }, sub { "offset $n of $name, it is $last" });
	return;
}

sub unique
{
	my %seen;
	return grep { !$seen{$_}++ } @_;
}

# ---- failures: the same body again, in order, nothing later before it

create_group('order', batch_max_events => 3, topics => [ $node->topic('o') ]);
$handler->control({ path => '/order', status => 500, times => 4 },
	{ path => '/order', status => 200, times => 2 },
	{ path => '/order', status => 503, times => 3 });
my $n = 60;
sql(qq{SELECT durable_event.publish_event('o', 'k' || i % 7, jsonb_build_object('entity', i % 7, 'version', i / 7 + 1))
	FROM generate_series(0, $n - 1) i});
$handler->wait_for_events($n, group => 'order', acknowledged => 1);
my %open;
my ($failures, @wrong) = (0);
foreach my $request ($handler->requests(group => 'order'))
{
	my $h = $request->{headers};
	my $state = $open{ $h->{'durable-event-partition'} } //= { next => 0, attempt => 1 };
	push @wrong, $h
	  if $h->{'durable-event-first-offset'} != $state->{next}
	  || $h->{'durable-event-attempt'} != $state->{attempt}
	  || defined $state->{id} && $h->{'webhook-id'} ne $state->{id};
	if ($request->{status} == 200)
	{
		%$state = (next => $h->{'durable-event-last-offset'} + 1, attempt => 1);
	}
	else
	{
		$failures++;
		$state->{attempt}++;
		$state->{id} = $h->{'webhook-id'};
	}
}
is_deeply(\@wrong, [], 'each partition: a batch until it is acknowledged, then the next');
is($failures, 7, 'seven attempts failed');
my $stats = $handler->stats->{groups}{order};
is($stats->{$_}, 0, "no $_") foreach qw(overlaps version_violations sequence_violations missing_versions);
wait_committed('order', $n);
$node->wait_query(q{SELECT events_delivered, failures FROM durable_event.stat_group WHERE group_name = 'order'},
	'stat_group to count', "$n|7");
pass('counted in stat_group');
$node->drop_group('order');

# ---- answers that do not acknowledge

create_group('answer', topics => [ $node->topic('a') ], mode => 'single');
$node->publish('a', 'k', { n => 0 });
$handler->wait_for_events(1, group => 'answer', acknowledged => 1);
wait_committed('answer', 1);
my $position = $node->log_position;
my $acknowledged = 1;
foreach my $case (
	[ 'a page of an ingress', qr/not JSON/, body => '<html>welcome</html>', headers => { 'content-type' => 'text/html' } ],
	[ 'plain text', qr/not JSON/, body => 'OK' ],
	[ 'an empty body that ends with its connection', qr/content-length/, body => '', close => 'after' ],
	[ 'another body that does', qr/content-length/, body => '{}', close => 'after' ],
	[ 'a chunked body cut off', qr/./, body => "2\r\n{}\r\n0\r\n\r\n", close => 'mid', headers => { 'transfer-encoding' => 'chunked' } ],
	[ 'a body cut off', qr/./, body => '{"batchItemFailures":[]}', close => 'mid' ],
	[ 'a connection closed without an answer', qr/./, close => 'before' ],
	[ 'a failed item', qr/1 failed event/, body => '{"batchItemFailures":[{"itemIdentifier":"x"}]}' ],
	[ 'another JSON', qr/./, body => '{"error":"no"}' ],
	[ 'a redirect', qr/\b302\b/, status => 302, headers => { location => $handler->url('/elsewhere') } ],
	[ '404', qr/\b404\b/, status => 404 ],
	[ '500', qr/\b500\b/, status => 500, body => 'sorry' ])
{
	my ($name, $error, %step) = @$case;
	$handler->control({ path => '/answer', %step });
	my $id = $node->publish('a', 'k', { n => $name });
	my @attempts;
	wait_until(
		sub {
			@attempts = grep { $_->{body}{id} eq $id } $handler->requests(path => '/answer');
			@attempts >= 3;
		},
		"$name: three attempts");
	is(committed('answer'), $acknowledged, "$name: is no acknowledgement");
	like(group_column('answer', 'last_error'), $error, "$name: last_error");
	is(group_column('answer', 'state'), 'retrying', "$name: state");
	$handler->clear;
	wait_committed('answer', ++$acknowledged);
}
is($handler->stats->{paths}{'/elsewhere'}, undef, 'redirects are not followed');
$node->wait_group_state('answer', 'running');
my $log = $node->log_since($position);
is(scalar(() = $log =~ /handler of consumer group "answer" did not accept events/g),
	1, 'one line in the log for many failures');

# no answer in time
$node->update_group('answer', timeout => '300 ms');
wait_until(
	sub {
		$node->publish('a', 'k', {});
		grep { $_->{headers}{'durable-event-timeout-ms'} == 300 } $handler->requests(path => '/answer');
	},
	'the new time-out');
$node->flush;
$acknowledged = $kafka->count($node->topic('a'));
wait_committed('answer', $acknowledged);
$handler->control({ path => '/answer', hang => 1, times => 2 });
my $hung = $node->publish('a', 'k', { n => 'hung' });
wait_committed('answer', $acknowledged + 1);
my @attempts = grep { $_->{body}{id} eq $hung } $handler->requests(path => '/answer');
is(join(' ', map { $_->{headers}{'durable-event-attempt'} } @attempts), '1 2 3',
	'no answer in time: again, and again');
is(scalar(unique(map { $_->{headers}{'webhook-id'} } @attempts)), 1, 'under the same webhook-id');
$acknowledged++;

# nobody listens
$node->update_group('answer', timeout => '20 s');
$handler->stop;
$node->publish('a', 'k', { n => 'refused' });
$node->wait_group_state('answer', 'retrying');
$node->wait_query(q{SELECT last_error ILIKE '%connect%' FROM durable_event.stat_group WHERE group_name = 'answer'},
	'last_error to say so');
is(committed('answer'), $acknowledged, 'connection refused: nothing is committed');
$handler->start;
wait_committed('answer', ++$acknowledged);
pass('and delivered when the handler is back');

# answers that do
foreach my $step (
	{ status => 204 },
	{ status => 200, body => '' },
	{ status => 202, body => '' },
	{ status => 201, body => '{}' },
	# what Node.js sends for res.writeHead(200); res.end()
	{ status => 200, body => "0\r\n\r\n", headers => { 'transfer-encoding' => 'chunked' } },
	{ status => 206, body => '' },
	{ status => 200, body => 'null' },
	{ status => 200, body => ' {"batchItemFailures" : [ ]} ' })
{
	$handler->control({ path => '/answer', %$step });
	my $id = $node->publish('a', 'k', { n => $step });
	wait_committed('answer', ++$acknowledged);
	is(scalar(grep { $_->{body}{id} eq $id } $handler->requests(path => '/answer')),
		1, 'acknowledged at once: ' . json_encode($step));
}
$handler->clear;

# ---- restarts repeat nothing that was acknowledged and committed; what is under way is waited for

my $before = $handler->stats->{groups}{answer}{events};
$node->restart;
$node->wait_group_state('answer', 'running');
$node->publish('a', 'k', { n => 'after restart' });
wait_committed('answer', ++$acknowledged);
is($handler->stats->{groups}{answer}{events}, $before + 1, 'a restart repeats nothing');

$handler->control({ path => '/answer', delay_ms => 1000 });
my $slow = $node->publish('a', 'k', { n => 'slow' });
$node->wait_query(q{SELECT in_flight FROM durable_event.stat_group WHERE group_name = 'answer'},
	'the slow request to be under way', 1);
$node->restart;
$handler->clear;
$node->wait_group_state('answer', 'running');
$node->publish('a', 'k', { n => 'after slow' });
wait_committed('answer', $acknowledged + 2);
is(scalar(grep { $_->{body}{id} eq $slow } $handler->requests(path => '/answer')),
	1, 'an answer that comes during the shutdown counts');
my $proxy = $node->kill_worker('proxy', 'TERM');
$node->wait_for_worker('proxy', $proxy);
$node->wait_group_state('answer', 'running');
$before = $handler->stats->{groups}{answer}{events};
$node->publish('a', 'k', { n => 'after SIGTERM' });
wait_committed('answer', $acknowledged + 3);
is($handler->stats->{groups}{answer}{events}, $before + 1, 'nor does a new proxy repeat anything');

# ---- a malformed secret at the start of the server: rather nothing than requests without signature

$node->configure('durable_event.signing_secret' => 'whsec_%%%');
$position = $node->log_position;
$node->restart;
$node->wait_query(q{SELECT status FROM durable_event.check() WHERE check_name = 'signing_secret'},
	'check() to say so', 'error');
wait_until(sub { $node->log_since($position) =~ /no consumer groups are run until a well-formed durable_event.signing_secret/ },
	'the proxy to say why nothing is sent');
$handler->clear;
$node->publish('a', 'k', { n => 'after a bad secret' });
$node->flush;
is($handler->stats->{groups}{answer}{events} // 0, $before + 1, 'nothing is sent without a signature');
$node->reconfigure('durable_event.signing_secret' => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
wait_committed('answer', $acknowledged + 4);
is(sql(q{SELECT status FROM durable_event.check() WHERE check_name = 'signing_secret'}), 'ok', 'and check() is content');

is($handler->stats->{total}{overlaps}, 0, 'never two requests of a partition at once');
$node->stop('fast');
done_testing();
