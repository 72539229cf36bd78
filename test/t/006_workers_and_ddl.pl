# The life of the workers: they come, go and come back as the settings, DDL, signals and
# shutdowns ask, while the broker or a handler does not answer (G8).
#
# Guards against: DROP DATABASE, CREATE DATABASE ... TEMPLATE or RENAME that waits for a worker or
# fails because of one, workers that do not come back (or come back in a storm of errors), a
# worker that a CREATE EXTENSION after its start does not wake, a shutdown that waits for the
# network, and library threads that take the server's signals.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;
use IPC::Run;
use Time::HiRes qw(time);

# our own: it is stopped
my $kafka = DurableEvent::Kafka->new;
my $handler = DurableEvent::Handler->new;
my $node = DurableEvent::Node->create(
	'main',
	kafka => $kafka,
	databases => 'postgres, app',
	extension => 0,
	settings => {
		'durable_event.proxy' => 'primary',
		'durable_event.topic_partitions' => 1
	});

sub sql { return $node->safe_psql('postgres', @_); }

sub count_log
{
	my ($position, $pattern) = @_;
	my $n = () = $node->log_since($position) =~ /$pattern/g;
	return $n;
}

# Lines that complain, of processes that are no client sessions (their lines have no application).
sub complaints
{
	my ($position) = @_;
	return grep { /\] (WARNING|ERROR|FATAL|PANIC):/ } split /\n/, $node->log_since($position);
}

# Runs it and tests that it took no longer than so many seconds.
sub within
{
	my ($seconds, $name, $code) = @_;
	my $start = time;
	$code->();
	my $took = time - $start;
	cmp_ok($took, '<', $seconds, sprintf('%s (%.1f s)', $name, $took));
	return;
}

# ---- visible

my $position = 0;
$node->wait_for_worker($_) foreach qw(launcher relay proxy);
is( sql(q{SELECT backend_type, application_name, datname FROM pg_stat_activity
		WHERE backend_type LIKE 'durable_event%' ORDER BY 1}),
	join("\n",
		'durable_event launcher|durable_event launcher|',
		'durable_event proxy|durable_event proxy 0|postgres',
		'durable_event relay|durable_event relay|postgres'),
	'the workers of pg_stat_activity');
$node->wait_query(
	q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'durable_event%'
		AND wait_event_type = 'Extension' AND wait_event IN ('Extension', 'DurableEventLauncher', 'DurableEventRelay', 'DurableEventProxy')},
	'the workers to show what they wait for', 3);
pass('their wait events');
is(count_log(0, qr/database "app" listed in durable_event.databases does not exist/),
	1, 'a listed database that does not exist: one warning');

# ---- CREATE and DROP EXTENSION while the workers run

$node->psql('postgres', 'BEGIN; CREATE EXTENSION durable_event; ROLLBACK');
my @pids = map { $node->worker_pid($_) } qw(relay proxy);
sql('CREATE EXTENSION durable_event');
$node->publish('e', 'k', 0);
ok($node->flush(10), 'the relay notices CREATE EXTENSION');

# The load goes on when it fails: its errors are its own.
my $dir = PostgreSQL::Test::Utils::tempdir;
append_to_file("$dir/load.sql",
	qq{SELECT durable_event.publish_event('load', 'k', '{}') FROM generate_series(1, 20);\n} x 200_000);
my $output = '';
my @load = map {
	IPC::Run::start(
		[ 'psql', '-XAtq', '-o', '/dev/null', '-f', "$dir/load.sql", '-d', $node->connstr('postgres') ],
		'<', \'', '>&', \$output)
} 1 .. 2;
$position = $node->log_position;
foreach my $round (1 .. 6)
{
	$node->wait_query(q{SELECT events_acked > 100 FROM durable_event.stat_relay}, 'events of the load')
	  if $round == 1;
	sql('DROP EXTENSION durable_event');
	sql('CREATE EXTENSION durable_event');
	next if $round % 2;
	$node->publish('e', 'k', $round);
	ok($node->flush(30), "round $round: extension dropped and created under load");
}
foreach my $psql (@load)
{
	$psql->signal('TERM');
	eval { $psql->finish };
}
ok($node->flush, 'all is sent');
is(join(' ', map { json_decode($_->{payload}) } $kafka->consume($node->topic('e'))),
	'0 2 4 6', 'what was published with the extension there was sent');
is_deeply([ complaints($position) ], [], 'no worker complained');
is(join(' ', map { $node->worker_pid($_) } qw(relay proxy)), "@pids", 'or was restarted');

# ---- databases

$position = $node->log_position;
sql('CREATE DATABASE app');
$node->safe_psql('app', 'CREATE EXTENSION durable_event');
$node->publish('e', 'k', 'app 1', undef, 'app');
ok($node->flush(undef, 'app'), 'a listed database is served when it is created');
$node->wait_for_worker('proxy', undef, 'app');

within(5, 'CREATE DATABASE with a served template', sub { sql('CREATE DATABASE copy TEMPLATE app') });
$node->publish('e', 'k', 'app 2', undef, 'app');
ok($node->flush(20, 'app'), 'the template is served again');
within(5, 'RENAME of a served database', sub { sql('ALTER DATABASE app RENAME TO app2') });
$node->wait_query(
	q{SELECT count(*) FROM pg_stat_activity
		WHERE datname = 'app2' AND backend_type LIKE 'durable_event%'},
	'no workers under the new name', 0);
pass('a database that is not listed under its new name is left alone');
$node->publish('e', 'k', 'app 3', undef, 'app2');
$node->reconfigure('durable_event.databases' => 'postgres, app2');
ok($node->flush(20, 'app2'), 'listed by SIGHUP, it is served at once');
$node->reconfigure('durable_event.databases' => 'postgres');
$node->wait_query(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'app2'}, 'workers to leave', 0);
pass('taken from the list, its workers leave');
$node->reconfigure('durable_event.databases' => 'postgres, app2');
$node->wait_for_worker('relay', undef, 'app2');
$node->wait_for_worker('proxy', undef, 'app2');
within(5, 'DROP DATABASE of a served database', sub { sql('DROP DATABASE app2') });
my $missing = qr/database "app2" listed in durable_event.databases does not exist/;
wait_until(sub { count_log($position, $missing) > 0 }, 'the warning');
is(count_log($position, $missing), 1, 'the log warns once');
sql('CREATE DATABASE app2');
$node->safe_psql('app2', 'CREATE EXTENSION durable_event');
$node->publish('e', 'k', 'app 4', undef, 'app2');
ok($node->flush(20, 'app2'), 'created again, it is served again');
my %sent = map { (json_decode($_->{payload}) => 1) } $kafka->consume($node->topic('e'));
is(join(' ', grep { $sent{"app $_"} } 1 .. 4), '1 2 3 4', 'all events of these databases were sent');
is_deeply([ grep { !/WARNING:  database "app2?" listed/ } complaints($position) ],
	[], 'no worker complained');

# ---- signals

foreach my $kind (qw(relay proxy launcher))
{
	my $pid = $node->worker_pid($kind);
	sql("SELECT pg_terminate_backend($pid)");
	isnt($node->wait_for_worker($kind, $pid), $pid, "the $kind comes back after pg_terminate_backend");
	$node->publish('e', 'k', "after $kind");
	ok($node->flush(20), 'and all goes on');
}
foreach my $kind (qw(relay proxy))
{
	my $pid = $node->worker_pid($kind);
	sql("SELECT pg_cancel_backend($pid)");
	$node->wait_for_worker($kind, $pid);
}
$node->publish('e', 'k', 'after cancel');
ok($node->flush(20), 'pg_cancel_backend does no more harm');

$node->create_group('g', event_types => ['e'], handler_url => $handler->url('/hung'), timeout => '10 min');
$handler->control({ path => '/hung', hang => 1 });
$node->wait_query('SELECT in_flight > 0 FROM durable_event.stat_group', 'a request that hangs');

# All but those that cannot be blocked: SIGKILL, SIGSTOP, and two of the threads library.
my $blocked = ~((1 << 8) | (1 << 18) | (1 << 31) | (1 << 32));
no warnings 'portable';
foreach my $kind (qw(relay proxy))
{
	my $pid = $node->worker_pid($kind);
	my ($threads, @open) = (0);
	foreach my $task (glob "/proc/$pid/task/*")
	{
		next if $task =~ m{/$pid$};
		my $status = eval { slurp_file("$task/status") } // next;
		my ($mask) = $status =~ /^SigBlk:\s*([0-9a-f]+)$/m;
		$threads++;
		push @open, "$task $mask" if (hex($mask) & $blocked) != $blocked;
	}
	cmp_ok($threads, '>', 2, "the $kind has threads of the library");
	is_deeply(\@open, [], 'and all of them block all signals');
}

# ---- a broker that does not answer, and a handler that does not either

my $broker = slurp_file($kafka->dir . '/pid');
chomp $broker;
sql('CREATE DATABASE template_of_others');
sql('CREATE DATABASE unrelated');
kill('STOP', $broker);
$node->publish('e', 'k', 'not answered');
ok(!$node->flush(1), 'the broker does not answer');
is(sql('SELECT in_flight > 0 FROM durable_event.stat_group'), 't', 'nor does the handler');
within(2, 'DROP DATABASE of another database', sub { sql('DROP DATABASE unrelated') });
within(2, 'CREATE DATABASE with a template that is not served',
	sub { sql('CREATE DATABASE another TEMPLATE template_of_others') });
within(2, 'DROP EXTENSION and CREATE EXTENSION in another database',
	sub { $node->safe_psql('another', 'CREATE EXTENSION durable_event; DROP EXTENSION durable_event') });
within(5, 'DROP DATABASE of a served database', sub { sql('DROP DATABASE app2') });
$node->wait_query(
	q{SELECT count(backend_xmin), count(backend_xid) FROM pg_stat_activity
		WHERE backend_type LIKE 'durable_event%'},
	'no snapshot to be held', '0|0');
pass('no worker holds a snapshot');

# shutdown_timeout is 3 s
within(8, 'a fast shutdown', sub { $node->stop('fast') });
$node->start;
$node->wait_for_worker($_) foreach qw(relay proxy);
$node->publish('e', 'k', 'nor now');
within(3, 'an immediate shutdown', sub { $node->stop('immediate') });
kill('CONT', $broker);

$kafka->kill;
$node->start;
$node->wait_for_worker($_) foreach qw(relay proxy);
$node->wait_relay_state('connecting');
$node->publish('e', 'k', 'nobody listens');
within(2, 'DROP DATABASE of another database, nobody listens', sub { sql('DROP DATABASE another') });
within(8, 'a fast shutdown, nobody listens', sub { $node->stop('fast') });

$handler->clear;
$kafka->start;
$node->start;
ok($node->flush, 'when the broker is back, all is sent');
my %seen;
my @last = grep { !$seen{$_}++ } map { json_decode($_->{payload}) } $kafka->consume($node->topic('e'));
is(join(', ', @last[ -3 .. -1 ]), 'not answered, nor now, nobody listens', 'in order');
my @events = $handler->wait_for_events(scalar @last, acknowledged => 1);
pass('and delivered');

$node->stop('fast');
done_testing();
