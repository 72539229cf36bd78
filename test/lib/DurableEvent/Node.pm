
=pod

=head1 NAME

DurableEvent::Node - a PostgreSQL server with durable_event, for tests

=head1 SYNOPSIS

  my $node = DurableEvent::Node->create('main', kafka => $kafka);
  $node->publish('invoice_revised', 'k1', { amount => 10 });
  ok($node->flush, 'acknowledged by Kafka');
  my @records = $kafka->consume($node->topic('invoice_revised'));

=head1 DESCRIPTION

A PostgreSQL::Test::Cluster with all its methods, and those below.  Its topics and groups have
names that no other test has (test_prefix()), so tests can share one Kafka.

=cut

package DurableEvent::Node;

use strict;
use warnings;

use DurableEvent::Util qw(json_encode test_prefix wait_until);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use parent -norequire, 'PostgreSQL::Test::Cluster';

=pod

=head1 METHODS

=over

=item DurableEvent::Node->create($name, %options)

A started server with the extension in its database postgres.  Options:

  kafka      a DurableEvent::Kafka, or bootstrap => 'host:port'; without either none is set
  source     default urn:test; '' = unset
  databases  default postgres
  prefix     topic_prefix and group_prefix; default test_prefix()
  settings   hash reference: name => value of any other settings; undef value = leave it out
  extension  0 = no CREATE EXTENSION
  initdb     array reference: further options
  start      0 = neither start nor CREATE EXTENSION

=cut

sub create
{
	my ($class, $name, %options) = @_;
	my $self = $class->new($name);

	$self->{de_prefix} = $options{prefix} // test_prefix();
	# whatever the locale of who runs the tests
	$self->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C', @{ $options{initdb} // [] } ]);

	my $bootstrap = $options{bootstrap} // ($options{kafka} ? $options{kafka}->bootstrap : undef);
	my %settings = (
		'shared_preload_libraries' => 'durable_event',
		'max_worker_processes' => 16,
		# init() leaves 10, which 8 writers and a session that is just ending use up
		'max_connections' => 50,
		'max_prepared_transactions' => 10,
		# a killed worker restarts the server, which is the point of killing it
		'restart_after_crash' => 'on',
		'durable_event.databases' => $options{databases} // 'postgres',
		'durable_event.source' => $options{source} // 'urn:test',
		'durable_event.topic_prefix' => $self->{de_prefix},
		'durable_event.group_prefix' => $self->{de_prefix},
		'durable_event.bootstrap_servers' => $bootstrap,
		%{ $options{settings} // {} });
	$self->configure(%settings);

	return $self if exists $options{start} && !$options{start};
	$self->start;
	$self->safe_psql('postgres', 'CREATE EXTENSION durable_event')
	  if $options{extension} // 1;
	return $self;
}

=item configure(name => value, ...)

Appends settings to postgresql.conf; takes effect at the next reload or start.

=item reconfigure(name => value, ...)

The same and reload.

=cut

sub configure
{
	my ($self, %settings) = @_;
	my $text = '';
	foreach my $name (sort keys %settings)
	{
		next unless defined $settings{$name};
		my $value = $settings{$name};
		$value =~ s/'/''/g;
		$text .= "$name = '$value'\n";
	}
	$self->append_conf('postgresql.conf', $text);
	return;
}

sub reconfigure
{
	my ($self, %settings) = @_;
	$self->configure(%settings);
	$self->reload;
	return;
}

=item create_standby($name [, name => value, ...])

A started hot standby of this server by streaming replication; further settings are its own.

=cut

sub create_standby
{
	my ($self, $name, %settings) = @_;
	my $standby = (ref $self)->new($name);

	$standby->{de_prefix} = $self->{de_prefix};
	$self->backup("for_$name");
	$standby->init_from_backup($self, "for_$name", has_streaming => 1);
	$standby->configure(%settings);
	$standby->start;
	return $standby;
}

=item topic($event_type), group_id($group)

Names in Kafka: with this server's prefix.

=cut

sub topic { return "$_[0]->{de_prefix}$_[1]"; }
sub group_id { return "$_[0]->{de_prefix}$_[1]"; }

=item publish($event_type, $key, $payload [, $headers [, $dbname]])

Publishes in a transaction of its own; returns the event's uuid.  $payload and $headers are data
(encoded as JSON) or undef.

=cut

sub publish
{
	my ($self, $event_type, $key, $payload, $headers, $dbname) = @_;
	my @arguments = (
		_literal($event_type), _literal($key),
		map { defined $_ ? _literal(json_encode($_)) . '::jsonb' : 'NULL' } $payload, $headers);
	return $self->safe_psql($dbname // 'postgres',
		'SELECT durable_event.publish_event(' . join(', ', @arguments) . ')');
}

sub _literal
{
	my ($text) = @_;
	return 'NULL' unless defined $text;
	$text =~ s/'/''/g;
	return $text =~ s/\\/\\\\/g ? "E'$text'" : "'$text'";
}

=item flush([$seconds [, $dbname]])

All events committed before are acknowledged by Kafka: true, or false after $seconds (default: the
test timeout).

=cut

sub flush
{
	my ($self, $seconds, $dbname) = @_;
	$seconds //= $PostgreSQL::Test::Utils::timeout_default;
	return $self->safe_psql($dbname // 'postgres',
		"SELECT durable_event.flush(interval '$seconds s')") eq 't';
}

=item create_group($name, column => value, ...)

Inserts a row of durable_event.consumer_group.  Array columns take an array reference,
handler_headers a hash reference.

=item update_group($name, column => value, ...), drop_group($name)

=cut

sub create_group
{
	my ($self, $name, %columns) = @_;
	$columns{name} = $name;
	my @names = sort keys %columns;
	$self->safe_psql('postgres',
		    'INSERT INTO durable_event.consumer_group ('
		  . join(', ', @names)
		  . ') VALUES ('
		  . join(', ', map { _value($columns{$_}) } @names)
		  . ')');
	return;
}

sub update_group
{
	my ($self, $name, %columns) = @_;
	$self->safe_psql('postgres',
		    'UPDATE durable_event.consumer_group SET '
		  . join(', ', map { "$_ = " . _value($columns{$_}) } sort keys %columns)
		  . ' WHERE name = '
		  . _literal($name));
	return;
}

sub drop_group
{
	my ($self, $name) = @_;
	$self->safe_psql('postgres',
		'DELETE FROM durable_event.consumer_group WHERE name = ' . _literal($name));
	return;
}

sub _value
{
	my ($value) = @_;
	return 'ARRAY[' . join(', ', map { _literal($_) } @$value) . ']::text[]'
	  if ref $value eq 'ARRAY';
	return _literal(json_encode($value)) . '::jsonb' if ref $value eq 'HASH';
	return _literal($value);
}

=item relay_state([$dbname]), wait_relay_state($state [, $dbname])

State in stat_relay; undef while the server does not answer.

=item wait_group_state($name, $state)

The same of a consumer group in stat_group; with partitions assigned when $state is running.

=cut

sub relay_state
{
	my ($self, $dbname) = @_;
	return $self->_try_query($dbname, 'SELECT state FROM durable_event.stat_relay');
}

sub wait_relay_state
{
	my ($self, $state, $dbname) = @_;
	my $last;
	wait_until(sub { ($last = $self->relay_state($dbname) // 'no answer') eq $state },
		sub { "the relay to be $state, it is $last" });
	return 1;
}

sub wait_group_state
{
	my ($self, $name, $state) = @_;
	my $last;
	wait_until(
		sub {
			$last = $self->_try_query('postgres',
				'SELECT state FROM durable_event.stat_group WHERE group_name = ' . _literal($name)
				  . " AND (state <> 'running' OR partitions > 0)") // 'no answer';
			$last eq $state;
		},
		sub { "group $name to be $state, it is $last" });
	return 1;
}

# A query that may fail; undef when it does.
sub _try_query
{
	my ($self, $dbname, $query) = @_;
	# a psql that is refused may be gone before it has read the query: a broken pipe, which dies
	my ($result, $stdout, $stderr) = eval { $self->psql($dbname // 'postgres', $query) };
	die $@ if $@ =~ /^ended by SIG/;
	return defined $result && $result == 0 ? $stdout : undef;
}

=item wait_query($query, $what [, $expected [, $dbname]])

Waits until the query returns $expected (default t); failing queries count as not yet.

=cut

sub wait_query
{
	my ($self, $query, $what, $expected, $dbname) = @_;
	my $last;
	$expected //= 't';
	wait_until(sub { ($last = $self->_try_query($dbname, $query) // 'no answer') eq $expected },
		sub { "$what, last answer: $last" });
	return 1;
}

=item worker_pid($kind [, $dbname])

Process id of the relay or a proxy of that database, or of the launcher; undef when there is none.

=item kill_worker($kind [, $signal [, $dbname]])

Sends it a signal (default KILL) and returns its process id.  KILL makes the server restart.

=cut

sub worker_pid
{
	my ($self, $kind, $dbname) = @_;
	my $query = "SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'durable_event $kind'";
	$query .= ' AND datname = ' . _literal($dbname // 'postgres') unless $kind eq 'launcher';
	my $pid = $self->_try_query('postgres', $query);
	return defined $pid && $pid ne '' ? $pid : undef;
}

sub kill_worker
{
	my ($self, $kind, $signal, $dbname) = @_;
	my $pid = wait_until(sub { $self->worker_pid($kind, $dbname) }, "a $kind to kill");
	kill($signal // 'KILL', $pid);
	return $pid;
}

=item wait_for_worker($kind [, $not_pid [, $dbname]])

Waits for a worker whose process id is another one than $not_pid; returns it.

=item wait_until_up

Waits until the server accepts connections (it restarts by itself after a worker was killed).

=cut

sub wait_for_worker
{
	my ($self, $kind, $not_pid, $dbname) = @_;
	return wait_until(
		sub {
			my $pid = $self->worker_pid($kind, $dbname);
			defined $pid && $pid != ($not_pid // 0) ? $pid : undef;
		},
		"a new $kind");
}

sub wait_until_up
{
	my ($self) = @_;
	wait_until(sub { defined $self->_try_query('postgres', 'SELECT 1') }, 'the server to be up');
	return;
}

=item kill9_and_start

kill -9 of the postmaster, then a start as soon as its orphans have let go of the shared memory.

=cut

sub kill9_and_start
{
	my ($self) = @_;

	my $pid_file = $self->data_dir . '/postmaster.pid';
	my @lines = split /\n/, slurp_file($pid_file);
	my ($pid, $shmid) = ($lines[0], (split ' ', $lines[6])[1]);

	$self->kill9;
	# The orphans notice within moments, but one may be in the midst of something.
	wait_until(sub { _attached($shmid) == 0 }, 'the orphans of the killed postmaster to end');
	# A zombie counts as running to the next postmaster, and not every init of a container reaps.
	eval {
		wait_until(sub { !kill(0, $pid) }, 'the killed postmaster to be reaped', 10);
	} or unlink $pid_file;
	$self->start;
	return;
}

# Processes attached to a System V shared memory segment.
sub _attached
{
	my ($shmid) = @_;
	foreach (split /\n/, slurp_file('/proc/sysvipc/shm'))
	{
		my @fields = split;
		return $fields[6] if $fields[1] eq $shmid;
	}
	return 0;
}

=item arm($point, $action [, after => n] [, pid => p])

Arms a kill point (extension/base/kill_point.h) of this server, for the first process that comes
upon it, once: kill, error, hold or fail; after n passes, or only in that process.

=item wait_hit($point), was_hit($point)

The point was reached (and, when held, somebody waits there).

=item release($point)

Lets go on who waits there; also disarms.

=item has_kill_points

False when the extension was built without them.

=cut

sub has_kill_points
{
	my ($self) = @_;
	my $library = $self->config_data('--pkglibdir') . '/durable_event.so';
	return index(slurp_file($library), 'durable_event_kill_points/') >= 0;
}

sub _point { return $_[0]->data_dir . "/durable_event_kill_points/$_[1]"; }

sub arm
{
	my ($self, $point, $action, %options) = @_;
	my $file = $self->_point($point);
	my $text = join ' ', $action, map { "$_=$options{$_}" } sort keys %options;

	die "this build of durable_event has no kill points" unless $self->has_kill_points;
	mkdir $self->_point('');
	# at once or not at all
	append_to_file("$file.new", $text);
	rename("$file.new", $file) or die "could not arm $point: $!";
	$self->{de_hold}{$point} = $action eq 'hold';
	return;
}

sub was_hit
{
	my ($self, $point) = @_;
	my $file = $self->_point($point);
	return !-e $file && (!$self->{de_hold}{$point} || -e "$file.held");
}

sub wait_hit
{
	my ($self, $point) = @_;
	wait_until(sub { $self->was_hit($point) }, "a process to come to kill point $point");
	return;
}

sub release
{
	my ($self, $point) = @_;
	unlink map { $self->_point($point) . $_ } '', '.held';
	return;
}

=item log_position, log_since($position)

Bytes in the server's log now; its text after that.

=cut

sub log_position { return -s $_[0]->logfile // 0; }
sub log_since { return slurp_file($_[0]->logfile, $_[1]); }

=pod

=back

=cut

1;
