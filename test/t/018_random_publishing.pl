# G1, byte for byte: 200 rounds of random publishing by sessions that run out of temporary files,
# disk or memory, are cancelled or terminated.  What is in Kafka is what the committed
# transactions say that they have published, and no process of the server crashes.
#
# Guards against: bytes of one event in another, events of what was rolled back, events lost
# behind an error that somebody caught, heap overflows, errors in an abort.
#
# DE_RANDOM_SEED repeats a run, as far as timing lets it; DE_RANDOM_ROUNDS sets their number.

use strict;
use warnings;

use DurableEvent::Kafka;
use DurableEvent::Node;
use Digest::MD5 qw(md5_hex);
use DurableEvent::Util qw(json_decode);
use IPC::Run ();
use Test::More;

my $rounds = $ENV{DE_RANDOM_ROUNDS} // 200;
my $seed = $ENV{DE_RANDOM_SEED} // int(rand(2**31));
srand($seed);
diag("DE_RANDOM_SEED=$seed");

my $kafka = DurableEvent::Kafka->shared;
# a process that may write no large file must still be able to write WAL, and need write no table
my $node = DurableEvent::Node->create('main', kafka => $kafka, initdb => ['--wal-segsize=1'],
	settings => { 'log_statement' => 'none', 'shared_buffers' => '64MB' });
my $prefix = $node->topic('');

$node->safe_psql('postgres', <<'SQL');
-- what was published, said in the same transaction; a small table of its own for each round
CREATE TABLE said (event_id uuid, transaction text, key text, payload text, headers jsonb);
CREATE FUNCTION say(transaction text, n int, max_size int) RETURNS int LANGUAGE plpgsql AS
$$
DECLARE
	size int;
	bytes bytea;
	payload jsonb;
	headers jsonb;
	key text;
	digest text;
	id uuid;
BEGIN
	FOR i IN 1 .. n LOOP
		size := max_size * random() ^ 3;
		SELECT substring(string_agg(sha512(float8send(random())), ''), 1, size) INTO bytes
		FROM generate_series(0, size / 64);
		headers := CASE WHEN random() < 0.3 THEN
			jsonb_build_object('n', i::text, 'long', encode(substring(bytes, 1, 500), 'hex')) END;
		key := CASE WHEN random() < 0.9 THEN
			'Schlüssel ' || i || encode(substring(bytes, 1, (100 * random())::int), 'hex') END;
		IF random() < 0.5 THEN
			payload := jsonb_build_object('n', i, 'bytes', encode(bytes, 'base64'), 'ü', '€');
			id := durable_event.publish_event('random', key, payload, headers);
			digest := md5(convert_to(payload::text, 'UTF8'));
		ELSE
			id := durable_event.publish_binary_event('random', key, bytes, 'application/octet-stream', headers);
			digest := md5(bytes);
		END IF;
		EXECUTE format('INSERT INTO %I VALUES ($1, $2, $3, $4, $5)', 'said_' || split_part(transaction, '.', 1))
			USING id, transaction, key, digest, headers;
	END LOOP;
	RETURN n;
END
$$;
CREATE FUNCTION say_caught(transaction text, n int, max_size int) RETURNS int LANGUAGE plpgsql AS
$$
BEGIN
	RETURN say(transaction, n, max_size);
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;
END
$$;
CREATE FUNCTION look(said_by text) RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	differences int;
BEGIN
	SELECT count(*) INTO differences
	FROM (SELECT event_id, key, headers, md5(coalesce(binary_payload, convert_to(payload::jsonb::text, 'UTF8'))) AS payload
			FROM durable_event.pending_events()) AS pending
		FULL JOIN (SELECT * FROM said WHERE transaction = said_by) AS said USING (event_id)
	WHERE (pending.payload, pending.key, pending.headers) IS DISTINCT FROM (said.payload, said.key, said.headers);
	IF differences > 0 THEN
		RAISE NOTICE 'PENDING DIFFERS: % events of %', differences, said_by;
	END IF;
END
$$;
SQL

sub any_of { return $_[ int(rand(@_)) ]; }

# Commands of psql that limit the backend; soft limits, so that they can be lifted.
my $unlimited = '\! prlimit --pid $BACKEND --fsize=unlimited: --as=unlimited:';
my %limits = (
	disk => sub { '\! prlimit --pid $BACKEND --fsize=' . int(1_100_000 + rand(500_000)) . ':' },
	memory => sub {
		'\! prlimit --pid $BACKEND --as=$(($(sed -n "s/^VmSize:[^0-9]*\([0-9]*\) kB/\1/p" '
		  . '/proc/$BACKEND/status) * 1024 + ' . int(1_000_000 + rand(6_000_000)) . ')):';
	});

sub round_script
{
	my ($round) = @_;
	my $kind = (qw(nothing files disk memory cancel disk memory terminate))[ $round % 8 ];
	my @lines = ('SELECT pg_backend_pid() AS pid \gset', '\setenv BACKEND :pid',
		'SELECT setseed(' . rand() . ');',
		"CREATE TABLE said_$round () INHERITS (said);",
		"SET work_mem = '" . any_of('64kB', $kind eq 'disk' || $kind eq 'files' ? '256kB' : '4MB') . "';");

	push @lines, 'SET temp_file_limit = ' . int(100 + rand(1000)) . ';' if $kind eq 'files';
	foreach my $n (1 .. 1 + int(rand(3)))
	{
		my $transaction = "$round.$n";
		my @savepoints;

		push @lines, 'BEGIN;';
		foreach my $step (1 .. 1 + int(rand(8)))
		{
			my $size = any_of(100, 1000, 3000, 20_000, 300_000);
			my $most = ($kind eq 'disk' || $kind eq 'files' ? 6_000_000 : 1_500_000) / $size;
			my $events = 1 + int(rand(any_of(5, $most > 100 ? 100 : $most)));

			if ($kind eq 'cancel' || $kind eq 'terminate')
			{
				my $signal = $kind eq 'cancel' ? 'INT' : 'TERM';
				push @lines, sprintf('\! (sleep %.3f; kill -%s $BACKEND) >/dev/null 2>&1 &', rand(0.1), $signal)
				  if rand() < 0.3;
			}
			push @lines, $limits{$kind}->() if $limits{$kind} && rand() < 0.6;
			if (rand() < 0.3)
			{
				push @lines, "SAVEPOINT s$step;";
				push @savepoints, "s$step";
			}
			push @lines,
			  any_of("SELECT say('$transaction', $events, $size);",
				"SELECT say_caught('$transaction', $events, $size);");
			push @lines, "SELECT look('$transaction');" if rand() < 0.2;
			push @lines, $unlimited if $limits{$kind} && rand() < 0.6;
			if (@savepoints && rand() < 0.4)
			{
				my $savepoint = pop @savepoints;
				push @lines, any_of("ROLLBACK TO $savepoint;", "RELEASE $savepoint;");
			}
		}
		# a transaction that has failed may go on from where it was whole
		push @lines, "ROLLBACK TO $savepoints[0];" if @savepoints && rand() < 0.5;
		push @lines, $unlimited if $limits{$kind} && rand() < 0.8;
		push @lines, "SELECT look('$transaction');" if rand() < 0.3;
		push @lines, any_of('COMMIT;', 'COMMIT;', 'COMMIT;', 'ROLLBACK;');
		push @lines, $unlimited if $limits{$kind};
	}
	return join("\n", @lines) . "\n";
}

my $has_points = $node->has_kill_points;
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
my %errors;
my $differences = 0;
foreach my $round (1 .. $rounds)
{
	my $script = round_script($round);
	# the disk is full in the midst of a large transaction, and at once no longer
	$node->arm('pending-write', 'fail', after => int(rand(6))) if $has_points && $round % 5 == 0;
	my ($out, $error) = ('', '');
	IPC::Run::run([ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr('postgres') ],
		'<', \$script, '>', \$out, '2>', \$error);
	$errors{$1}++ while $error =~ /(?:ERROR|FATAL): +(.{1,40})/g;
	if ($error =~ /PENDING DIFFERS/)
	{
		$differences++;
		diag($error, $script);
	}
}
note(map { "$errors{$_} times: $_\n" } sort keys %errors);
is($differences, 0, 'pending_events() always shows what was published');
foreach my $expected (
	'temporary file size exceeds', 'could not write pending events', 'out of memory',
	'canceling statement', 'terminating connection')
{
	ok((grep { /\Q$expected\E/ } keys %errors), "there were errors such as \"$expected\"");
}

ok($node->flush(60), 'all is in Kafka');
my %said = map { my ($id, @rest) = split /\|/, $_, -1; $id => \@rest } split /\n/,
  $node->safe_psql('postgres', 'SELECT event_id, key, payload, headers FROM said');
cmp_ok(scalar(keys %said), '>', 100, scalar(keys %said) . ' events were published');
my ($wrong, %seen) = (0);
foreach my $record ($kafka->consume($node->topic('random')))
{
	my $id = $record->{headers}{ce_id};
	my ($key, $payload, $headers) = @{ $said{$id} // [] };

	if (!defined $payload)
	{
		diag("event $id was not published");
		$wrong++;
		next;
	}
	$seen{$id}++;
	my %own = map { $_ => $record->{headers}{$_} }
	  grep { !/^(ce_|content-type$)/ } keys %{ $record->{headers} };
	my $same = ($record->{key} // '') eq $key && md5_hex($record->{payload}) eq $payload
	  && eq_hash(\%own, $headers eq '' ? {} : json_decode($headers));
	next if $same;
	diag("event $id is not as it was published");
	$wrong++;
}
is($wrong, 0, 'what is in Kafka was published so, byte for byte');
is(scalar(keys %seen), scalar(keys %said), 'what was published is in Kafka');
is(scalar(grep { $_ > 1 } values %seen), 0, 'once');

is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'the server is the same');
unlike($node->log_since(0), qr/terminated by signal|PANIC|all server processes terminated/,
	'and no process has crashed');
$node->stop('fast');
done_testing();
