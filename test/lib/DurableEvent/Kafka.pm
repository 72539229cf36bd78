
=pod

=head1 NAME

DurableEvent::Kafka - a real Apache Kafka for tests, and what is in it

=head1 SYNOPSIS

  my $kafka = DurableEvent::Kafka->shared;          # for tests that leave the broker alone
  my $kafka = DurableEvent::Kafka->new;             # for tests that stop or kill it
  my $kafka = DurableEvent::Kafka->new(properties => ['message.max.bytes=100000']);

  my $second = $kafka->add_broker;                        # one more broker of the same cluster

  $kafka->bootstrap;                                # 127.0.0.1:port, the same for its life
  $kafka->stop; $kafka->start; $kafka->kill; $kafka->restart;
  my @records = $kafka->consume($topic);
  my @records = $kafka->wait_for_records($topic, 10);

=cut

package DurableEvent::Kafka;

use strict;
use warnings;

use DurableEvent::Util qw(json_decode run_ok test_dir wait_until);
use PostgreSQL::Test::Utils;
use Test::More;

my @started;

=pod

=head1 METHODS

=over

=item DurableEvent::Kafka->new([properties => [...], port => n])

Starts a broker of this test's own (some seconds), stopped at the end of the test.

=cut

sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		dir => PostgreSQL::Test::Utils::tempdir('kafka'),
		own => 1,
		script => test_dir() . '/kafka/kafka',
		admin => test_dir() . '/kafka/admin'
	}, $class;

	$self->_require_tools;
	push @started, $self;
	my @arguments = ($options{port} // (), @{ $options{properties} // [] });
	$self->_run('start', @arguments);
	note "Kafka of this test: $self->{bootstrap}, log in $self->{dir}/kafka.log";
	return $self;
}

=item add_broker([properties => [...]])

Starts one more broker of the same cluster; it has the methods of a DurableEvent::Kafka.  The
controller is the first one alone, so any other may be stopped, killed or frozen.

=cut

sub add_broker
{
	my ($self, %options) = @_;
	my $joined = bless { %{ $self->_own }, dir => PostgreSQL::Test::Utils::tempdir('kafka') },
	  ref $self;

	# in the order of their ends: the controller last
	unshift @started, $joined;
	$joined->_run('join', $self->dir, @{ $options{properties} // [] });
	note "one more broker: $joined->{bootstrap}, log in $joined->{dir}/kafka.log";
	return $joined;
}

=item DurableEvent::Kafka->shared

The broker that `make test` runs for all tests (DE_TEST_KAFKA names its folder), else one of this
test's own.  Not to be stopped, killed or configured; use names with test_prefix().

=cut

sub shared
{
	my ($class) = @_;
	return $class->new unless $ENV{DE_TEST_KAFKA};

	my $self = bless {
		dir => $ENV{DE_TEST_KAFKA},
		own => 0,
		script => test_dir() . '/kafka/kafka',
		admin => test_dir() . '/kafka/admin'
	}, $class;
	$self->_require_tools;
	# a test before this one may have met its end; starting a running broker does nothing
	$self->_run('start');
	return $self;
}

# Without Java or Maven the TAP tests cannot run.  `make test` has installed them, so there it is
# an error; under a plain `make installcheck` the test is skipped, and says so.
sub _require_tools
{
	my ($self) = @_;
	my @missing = grep { system("command -v $_ >/dev/null 2>&1") != 0 } qw(java kcat python3);

	push @missing, 'mvn'
	  if !-e test_dir() . '/kafka/target/complete' && system('command -v mvn >/dev/null 2>&1') != 0;
	push @missing, "$self->{admin} (make test-programs)" unless -x $self->{admin};
	return unless @missing;

	my $reason = 'Kafka for tests needs ' . join(', ', @missing) . '; see test/install-deps';
	die "$reason\n" if $ENV{DE_TEST_REQUIRED};
	plan skip_all => $reason;
}

sub _run
{
	my ($self, $command, @arguments) = @_;

	# a file, not a pipe: the broker would hold the pipe's other end open
	my $out = "$self->{dir}/script.out.$$";
	my $result = IPC::Run::run([ $self->{script}, $command, $self->{dir}, @arguments ],
		'<', \'', '>', $out, '2>', "$out.err");
	my $error = slurp_file("$out.err");
	chomp(my $printed = slurp_file($out));
	unlink $out, "$out.err";
	die "kafka $command failed: $error\n" unless $result;
	diag $error if $error ne '';
	$self->{bootstrap} = $printed if $command eq 'start' || $command eq 'join';
	return;
}

=item bootstrap

"127.0.0.1:port".

=item dir

Its folder; the log is kafka.log in it.

=item start, stop, kill, restart, freeze, thaw

stop is orderly, kill is kill -9, restart is stop and start.  Data and port stay.  A frozen broker
(SIGSTOP) keeps its connections and answers nothing.

=cut

sub bootstrap { return $_[0]->{bootstrap}; }
sub dir { return $_[0]->{dir}; }

sub start { $_[0]->_run('start'); return; }
sub stop { $_[0]->_own->_run('stop'); return; }
sub kill { $_[0]->_own->_run('kill'); return; }
sub freeze { $_[0]->_own->_signal('STOP'); return; }
sub thaw { $_[0]->_own->_signal('CONT'); return; }

sub _signal
{
	my ($self, $signal) = @_;
	chomp(my $pid = slurp_file("$self->{dir}/pid"));
	CORE::kill($signal, $pid);
	return;
}

sub restart
{
	my ($self) = @_;
	$self->stop;
	$self->start;
	return;
}

sub _own
{
	my ($self) = @_;
	die "a test that stops Kafka must have its own: DurableEvent::Kafka->new\n" unless $self->{own};
	return $self;
}

=item consume($topic [, partition => n] [, from => offset])

All records of a topic up to its present end, by partition and offset, each a hash reference with
topic, partition, offset, timestamp (ms), key and payload (undef = null), headers (hash) and
header_list (name, value, ... in order).  Strings are bytes.  An absent topic has no records (and
is not created by asking).

=cut

sub consume
{
	my ($self, $topic, %options) = @_;
	my ($stdout, $stderr) = ('', '');
	my @command = (
		'kcat', '-b', $self->bootstrap, '-C', '-t', $topic, '-e', '-q', '-J',
		'-o', $options{from} // 'beginning',
		'-X', 'fetch.wait.max.ms=10',
		defined $options{partition} ? ('-p', $options{partition}) : ());

	my $ok = IPC::Run::run(\@command, '<', \'', '>', \$stdout, '2>', \$stderr);
	my @records;
	return @records if !$ok && $stderr =~ /Unknown topic or partition/;
	die "@command: $stderr\n" unless $ok;

	foreach my $line (split /\n/, $stdout)
	{
		my $record = json_decode($line);
		my $list = $record->{headers} // [];
		push @records,
		  {
			topic => $record->{topic},
			partition => $record->{partition},
			offset => $record->{offset},
			timestamp => $record->{ts},
			key => $record->{key},
			payload => $record->{payload},
			headers => {@$list},
			header_list => $list
		  };
	}
	@records = sort { $a->{partition} <=> $b->{partition} || $a->{offset} <=> $b->{offset} } @records;
	return @records;
}

=item count($topic)

Records in it (ends less starts of its partitions); 0 when it is absent.

=item wait_for_records($topic, $n [, $timeout])

Waits until it holds at least $n records, then returns all.

=cut

sub count
{
	my ($self, $topic) = @_;
	my $sum = 0;
	return 0 unless $self->topics->{$topic};
	$sum += $_->{high} - $_->{low} foreach values %{ $self->ends($topic) };
	return $sum;
}

sub wait_for_records
{
	my ($self, $topic, $n, $timeout) = @_;
	my $count = 0;
	wait_until(sub { ($count = $self->count($topic)) >= $n },
		sub { "$n records in topic $topic, it has $count" }, $timeout);
	return $self->consume($topic);
}

=item produce($topic, \@records)

Produces records that durable_event did not write; each a hash reference with payload, key, headers
(all optional but payload, which must not hold a newline), in order, to partition 0 or partition => n.

=cut

sub produce
{
	my ($self, $topic, $records) = @_;
	foreach my $record (@$records)
	{
		my $headers = $record->{headers} // {};
		my $input = "$record->{payload}\n";
		my $stderr = '';
		IPC::Run::run(
			[
				'kcat', '-b', $self->bootstrap, '-P', '-t', $topic, '-p', $record->{partition} // 0,
				defined $record->{key} ? ('-k', $record->{key}) : (),
				map { ('-H', "$_=$headers->{$_}") } sort keys %$headers
			],
			'<', \$input, '2>', \$stderr) or die "kcat: $stderr\n";
	}
	return;
}

=item produce_large($topic, $partition, $n [, $headers])

Produces a record with a key of $n bytes 0x01, a value of one, and that many headers without values;
the broker sees it compressed.

=cut

sub produce_large
{
	my ($self, $topic, $partition, $n, $headers) = @_;
	$self->_admin('large', $topic, $partition, $n, $headers // 0);
	return;
}

=item topics

Hash reference: name of each topic => number of its partitions.

=item ends($topic)

Hash reference: partition => { low, high }.

=item topic_config($topic)

Hash reference of the properties set on the topic itself.

=item partitions($topic)

Hash reference: partition => { leader, replicas, isr }, the latter two lists of brokers.

=item log_count($pattern)

How often its log has the pattern.

=item committed($group)

Hash reference: "topic partition" => committed offset.

=item groups

Hash reference: group id => { state, members }.

=item create_topic($topic, $partitions, [@properties]), alter_topic($topic, @properties),
delete_topic($topic), grow_topic($topic, $n)

Properties are "name=value"; those of alter_topic replace what is set on the topic.

=cut

sub topics
{
	my ($self) = @_;
	return { map { split / / } split /\n/, $self->_admin('topics') };
}

sub ends
{
	my ($self, $topic) = @_;
	my %ends;
	foreach (split /\n/, $self->_admin('ends', $topic))
	{
		my ($partition, $low, $high) = split / /;
		$ends{$partition} = { low => $low, high => $high };
	}
	return \%ends;
}

sub topic_config
{
	my ($self, $topic) = @_;
	return { map { split /=/, $_, 2 } split /\n/, $self->_admin('config', $topic) };
}

sub partitions
{
	my ($self, $topic) = @_;
	my $metadata = json_decode(run_ok('kcat', '-b', $self->bootstrap, '-L', '-J', '-t', $topic));
	return {
		map {
			$_->{partition} => {
				leader => $_->{leader},
				replicas => [ map { $_->{id} } @{ $_->{replicas} } ],
				isr => [ map { $_->{id} } @{ $_->{isrs} } ]
			}
		} @{ $metadata->{topics}[0]{partitions} }
	};
}

sub log_count
{
	my ($self, $pattern) = @_;
	my $n = () = slurp_file("$self->{dir}/kafka.log") =~ /$pattern/g;
	return $n;
}

sub committed
{
	my ($self, $group) = @_;
	return { map { /^(.* \d+) (-?\d+)$/ } split /\n/, $self->_admin('offsets', $group) };
}

sub groups
{
	my ($self) = @_;
	my %groups;
	foreach (split /\n/, $self->_admin('groups'))
	{
		$groups{$1} = { state => $2, members => $3 } if /^(.*) (\S+) (\d+)$/;
	}
	return \%groups;
}

sub create_topic
{
	my ($self, $topic, $partitions, @properties) = @_;
	$self->_admin('create', $topic, $partitions, @properties);
	return;
}

sub alter_topic
{
	my ($self, $topic, @properties) = @_;
	$self->_admin('alter', $topic, @properties);
	return;
}

sub delete_topic { my ($self, $topic) = @_; $self->_admin('delete', $topic); return; }
sub grow_topic { my ($self, $topic, $n) = @_; $self->_admin('partitions', $topic, $n); return; }

sub _admin
{
	my ($self, @arguments) = @_;
	return run_ok($self->{admin}, $self->bootstrap, @arguments);
}

=pod

=back

=cut

END
{
	# take care not to change the script's exit value
	my $exit_code = $?;
	foreach my $kafka (@started)
	{
		eval { $kafka->_run('kill'); 1 } or diag $@;
	}
	$? = $exit_code;
}

1;
