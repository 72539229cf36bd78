# Events that exceed work_mem: what cannot be written or allocated does no harm.
#
# Guards against: bytes of an event changed by a short write that somebody caught (the disk was
# full for a moment), a write past a buffer that could not be enlarged, a transaction lost that
# could have gone on, a session that keeps its temporary file.  What makes the disk full or the
# memory short is a limit of the one process (prlimit), so nothing else is disturbed.

use strict;
use warnings;

use DurableEvent::Node;
use DurableEvent::Util qw(wait_until);
use Test::More;

my $node = DurableEvent::Node->create('main');

$node->safe_psql('postgres', <<'SQL');
-- events of about that size, each with bytes that no other has
CREATE FUNCTION publish(type text, from_n int, to_n int, size int) RETURNS bigint LANGUAGE sql AS
$$
	SELECT count(durable_event.publish_event(type, n::text, to_jsonb(repeat(md5(n::text), size / 32))))
	FROM generate_series(from_n, to_n) AS n
$$;
CREATE TYPE event AS (key text, payload text);
-- how many, and are they those of 1 to n?
CREATE FUNCTION summary(events event[]) RETURNS text LANGUAGE sql AS
$$
	SELECT count(*) || ' ' || coalesce(bool_and(key::int = n AND
		payload = repeat(md5(key), length(payload) / 32)), true)
	FROM unnest(events) WITH ORDINALITY AS e (key, payload, n)
$$;
CREATE FUNCTION pending() RETURNS text LANGUAGE sql AS
$$
	SELECT summary(array_agg((key, payload::jsonb #>> '{}')::event)) FROM durable_event.pending_events()
$$;
CREATE FUNCTION stored(type text) RETURNS text LANGUAGE sql AS
$$
	SELECT summary(array_agg((key, payload::jsonb #>> '{}')::event ORDER BY id))
	FROM durable_event.outbox WHERE event_type = type
$$;
SQL

my $session;
my $pid;

sub begin_session
{
	$session = $node->background_psql('postgres', on_error_stop => 0, timeout => 60);
	$pid = $session->query('SELECT pg_backend_pid()');
	return;
}

# The answer, or the error.
sub ask
{
	my ($query) = @_;
	my $answer = $session->query($query);
	my $error = $session->{stderr};
	$session->{stderr} = '';
	return $error =~ /(ERROR.*)/ ? $1 : $answer;
}

# Soft limits only, so that they can be lifted again.
sub limit
{
	my ($name, $value) = @_;
	system('prlimit', '--pid', $pid, "--$name=$value:") == 0 or die "prlimit failed";
	return;
}

sub temporary_files
{
	return glob($node->data_dir . "/base/pgsql_tmp/pgsql_tmp$pid.*");
}

sub file_size
{
	my ($file) = temporary_files();
	return defined $file ? -s $file : 0;
}

sub memory
{
	open(my $status, '<', "/proc/$pid/status") or die "no process $pid: $!";
	my ($kb) = join('', <$status>) =~ /VmSize:\s+(\d+) kB/;
	return $kb * 1024;
}

# ---- the disk is full for a moment

begin_session();
foreach my $size (320, 1120, 1504, 2496, 30016, 300032)
{
	my $n = int(3_000_000 / $size);

	# The limit is one for all that this process writes: no pages may be left for it to write, and
	# what it has to flush should be near the begin of a WAL segment (beyond the limit it would panic).
	$node->safe_psql('postgres', $_) foreach 'CHECKPOINT', 'SELECT pg_switch_wal()';
	ask("SET work_mem = '64kB'; BEGIN");
	is(ask("SELECT publish('size_$size', 1, $n, $size)"), $n, "$size bytes: published");
	cmp_ok(file_size(), '>', 0, 'there is a temporary file');
	ask('SAVEPOINT s');
	# 4 kB more fit, so the next write is a short one
	limit('fsize', file_size() + 4096);
	# with room for the rows of pending_events() itself
	is(ask("SET LOCAL work_mem = '1GB'; SELECT pending()"), "$n true",
		'reading what is pending needs no space');
	ask("SET LOCAL work_mem = '64kB'");
	like(ask("SELECT publish('size_$size', $n + 1, 2 * $n, $size)"), qr/ERROR.*could not write/,
		'more cannot be published');
	ask('ROLLBACK TO s');
	like(ask("SELECT publish('size_$size', $n + 1, 2 * $n, $size)"), qr/ERROR.*could not write/,
		'nor at a second try');
	ask('ROLLBACK TO s');
	limit('fsize', 'unlimited');
	is(ask("SELECT pending()"), "$n true", 'what was published before is whole');
	is(ask("SELECT publish('size_$size', $n + 1, $n + 5, $size)"), '5', 'when there is space, publishing goes on');
	is(ask("COMMIT; SELECT stored('size_$size')"), $n + 5 . ' true', 'and the transaction commits all of it');
	is_deeply([ temporary_files() ], [], 'and its file is gone');
}


# ---- a buffer that cannot be enlarged

ask("SET work_mem = '1GB'; BEGIN");
my $n = 0;
# until it has just been enlarged to 32 MB
$n += ask("SELECT publish('memory', $n + 1, $n + 50, 320032)") while $n * 320032 < 17_000_000;
ask('SAVEPOINT s');
limit('as', memory() + 20_000_000);
like(ask("SELECT publish('memory', $n + 1, $n + 100, 320032)"), qr/ERROR.*out of memory/,
	'there is no memory for twice the buffer');
ask('ROLLBACK TO s');
limit('as', 'unlimited');
is(ask('SELECT pending()'), "$n true", 'what was published before is whole');
is(ask("SELECT publish('memory', $n + 1, $n + 100, 320032)"), 100, 'publishing goes on');
is(ask("COMMIT; SELECT stored('memory')"), $n + 100 . ' true', 'and the transaction commits all of it');
$session->quit;

unlike($node->log_since(0), qr/terminated by signal|PANIC/, 'no process has crashed');

done_testing();
