
=pod

=head1 NAME

DurableEvent::Oracle - is what arrived exactly what was committed, in order?

=head1 SYNOPSIS

  my $oracle = DurableEvent::Oracle->new($node, types => 2, entities => 50);
  my $writers = $oracle->start_writers(clients => 8);
  ... kill things ...
  $writers->stop;
  $node->flush;
  $oracle->check_kafka($kafka, 'after the kills', max_duplicates => 5000);
  $oracle->check_handler($handler, 'group', 'after the kills');

=head1 DESCRIPTION

Writers keep a version in the row of each entity, in the database, under its row lock.  Each event
carries entity, version and its uuid; its row in oracle.committed is written by the same
transaction, so that table is the truth about what was committed, also after a crash.  Some
transactions and savepoints are rolled back after they published.

Checked are:

  no loss         every committed event is there
  no phantoms     nothing else is: no event of a rolled-back transaction or savepoint
  order           per key, first occurrences have ascending versions (so does a replay of them)
  commit order    per partition, first occurrences have ascending ids (ce_sequence)
  one partition   all events of a key are in one partition
  duplicates      not more than allowed

=cut

package DurableEvent::Oracle;

use strict;
use warnings;

use DurableEvent::Util qw(json_decode wait_until);
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

=pod

=head1 METHODS

=over

=item DurableEvent::Oracle->new($node, types => n, entities => n)

Creates schema oracle in database postgres: SELECT oracle.write($entity) is one step of a writer, to
be called in any transaction.  Events are of types oracle_0 ... oracle_(types - 1), an entity has
always the same.

=item types, topics

Names of the event types; their topics.

=cut

sub new
{
	my ($class, $node, %options) = @_;
	my $types = $options{types} // 2;
	my $entities = $options{entities} // 50;
	my $self = bless { node => $node, types => $types, entities => $entities, pgbench => [] }, $class;

	$node->safe_psql('postgres', <<"SQL");
CREATE SCHEMA oracle;
CREATE TABLE oracle.entity (entity integer PRIMARY KEY, version integer NOT NULL);
INSERT INTO oracle.entity SELECT i, 0 FROM generate_series(1, $entities) i;
CREATE TABLE oracle.committed (event_id uuid, event_type text, entity integer, version integer);
CREATE FUNCTION oracle.write(entity integer) RETURNS integer LANGUAGE plpgsql AS \$\$
DECLARE
	new_version integer;
	id uuid;
BEGIN
	UPDATE oracle.entity e SET version = version + 1
		WHERE e.entity = write.entity RETURNING version INTO STRICT new_version;
	id := durable_event.publish_event('oracle_' || entity % $types, entity::text,
		jsonb_build_object('entity', entity, 'version', new_version));
	INSERT INTO oracle.committed VALUES (id, 'oracle_' || entity % $types, entity, new_version);
	RETURN new_version;
END
\$\$;
SQL
	return $self;
}

sub types { my ($self) = @_; return map { "oracle_$_" } 0 .. $self->{types} - 1; }
sub topics { my ($self) = @_; return map { $self->{node}->topic($_) } $self->types; }

# Weight and script.  Rows are locked in ascending order: a deadlock would end the client.
my @scripts = (
	[ 6, 'SELECT oracle.write(:low);' ],
	[
		2, q{BEGIN;
SELECT oracle.write(:low);
SELECT oracle.write(:low);
SELECT oracle.write(:high);
COMMIT;}
	],
	[
		1, q{BEGIN;
SELECT oracle.write(:low);
SAVEPOINT s;
SELECT oracle.write(:low);
SELECT oracle.write(:high);
ROLLBACK TO s;
SELECT oracle.write(:high);
COMMIT;}
	],
	[
		1, q{BEGIN;
SELECT oracle.write(:low);
SELECT oracle.write(:high);
ROLLBACK;}
	]);

=item start_writers(clients => n, seconds => n, rate => n)

Starts pgbench with n clients (default 4), until stopped or for so many seconds; rate limits
transactions per second (default 500, 0 = none).  Its clients end when the server dies: start new
ones.  Returns an object with stop (end them now), wait (until they end by themselves; true if not
because the server went away) and output.

=cut

sub start_writers
{
	my ($self, %options) = @_;
	my $clients = $options{clients} // 4;
	my $rate = $options{rate} // 500;
	my $dir = PostgreSQL::Test::Utils::tempdir('oracle');
	my @files;
	my $i = 0;

	foreach my $script (@scripts)
	{
		my ($weight, $text) = @$script;
		my $half = int($self->{entities} / 2);
		my $file = "$dir/script_" . $i++;
		append_to_file($file,
			    "\\set low random(1, $half)\n"
			  . "\\set high random($half + 1, $self->{entities})\n$text\n");
		push @files, '-f', "$file\@$weight";
	}
	my $out = '';
	my $process = IPC::Run::start(
		[
			$self->{node}->installed_command('pgbench'), '-n', '-c', $clients, '-j', 2,
			'-T', $options{seconds} // 3600,
			$rate > 0 ? ('-R', $rate) : (),
			@files, $self->{node}->connstr('postgres')
		],
		'<', \'', '>&', \$out);
	my $writers = bless { process => $process, out => \$out }, 'DurableEvent::Oracle::Writers';
	push @{ $self->{pgbench} }, $writers;
	return $writers;
}

=item committed

Hash reference: uuid => [event type, entity, version] of all committed events.

=item committed_count

=cut

sub committed
{
	my ($self) = @_;
	my %committed;
	foreach (split /\n/, $self->{node}->safe_psql('postgres', 'SELECT * FROM oracle.committed'))
	{
		my ($id, @rest) = split /\|/;
		$committed{$id} = \@rest;
	}
	return \%committed;
}

sub committed_count
{
	my ($self) = @_;
	return $self->{node}->safe_psql('postgres', 'SELECT count(*) FROM oracle.committed');
}

=item check_kafka($kafka, $name [, max_duplicates => n])

Seven tests on the records in the topics; call flush() before.  Returns true when all passed.

=item check_handler($handler, $group, $name [, max_duplicates => n, timeout => s])

The same on what a handler (not quiet) has got for one group, which must be subscribed to all
types; waits until every committed event was acknowledged by it.

=cut

sub check_kafka
{
	my ($self, $kafka, $name, %options) = @_;
	my @events;
	foreach my $topic ($self->topics)
	{
		foreach my $record ($kafka->consume($topic))
		{
			push @events,
			  {
				id => $record->{headers}{ce_id},
				sequence => $record->{headers}{ce_sequence},
				key => $record->{key},
				partition => "$topic $record->{partition}",
				data => json_decode($record->{payload})
			  };
		}
	}
	return $self->_check("Kafka, $name", \@events, %options);
}

sub check_handler
{
	my ($self, $handler, $group, $name, %options) = @_;
	my $wanted = $self->committed_count;
	my $got = 0;

	eval {
		wait_until(
			sub {
				my $figures = $handler->stats->{groups}{$group};
				my %ids = map { ($_->[3] => 1) } $handler->events(group => $group, acknowledged => 1)
				  if ($figures->{acknowledged} // 0) >= $wanted;
				($got = scalar keys %ids) >= $wanted;
			},
			sub { "$wanted events acknowledged by the handler, it is $got" },
			$options{timeout});
	} or diag $@;

	my @events;
	my %acknowledged;
	foreach my $request ($handler->requests(group => $group))
	{
		my $body = $request->{body};
		foreach my $event (ref $body eq 'ARRAY' ? @$body : $body)
		{
			push @events,
			  {
				id => $event->{id},
				sequence => $event->{sequence},
				key => $event->{subject},
				partition => "$event->{kafkatopic} $event->{kafkapartition}",
				data => $event->{data}
			  };
			$acknowledged{ $event->{id} } = 1 if defined $request->{status} && $request->{status} < 300;
		}
	}
	return $self->_check("handler, $name", \@events, %options, acknowledged => \%acknowledged);
}

sub _check
{
	my ($self, $name, $events, %options) = @_;
	my $committed = $self->committed;
	my $found = examine($committed, $events);
	my @unacknowledged = $options{acknowledged}
	  ? grep { !$options{acknowledged}{$_} } keys %$committed
	  : ();

	note "$name: " . scalar(keys %$committed) . " committed, $found->{duplicates} duplicates";
	my $ok = ok(scalar(keys %$committed) > 0, "$name: something was committed");
	$ok &= _none("$name: no event is lost", @{ $found->{missing} });
	$ok &= _none("$name: every event is acknowledged", @unacknowledged) if $options{acknowledged};
	$ok &= _none("$name: nothing that was rolled back", @{ $found->{phantoms} });
	$ok &= _none("$name: versions in order per key", @{ $found->{inversions} });
	$ok &= _none("$name: commit order per partition", @{ $found->{sequence_inversions} });
	$ok &= _none("$name: a key stays in its partition", @{ $found->{moved} });
	$ok &= cmp_ok($found->{duplicates}, '<=', $options{max_duplicates},
		"$name: not more duplicates than the window") if defined $options{max_duplicates};
	return $ok;
}

=item DurableEvent::Oracle::examine(\%committed, \@events)

The judgement itself.  Events, in the order of each partition, are hash references with id, key,
partition, sequence and data.  Returns a hash reference: missing, phantoms, inversions,
sequence_inversions, moved (array references of texts), duplicates (a number).

=cut

sub examine
{
	my ($committed, $events) = @_;
	my (%seen, %versions, %sequences, %partitions);
	my %found = (
		duplicates => 0,
		map { ($_ => []) } qw(missing phantoms inversions sequence_inversions moved));

	foreach my $event (@$events)
	{
		my ($id, $key, $partition) = @{$event}{qw(id key partition)};
		if ($seen{$id}++)
		{
			$found{duplicates}++;
			next;
		}
		my ($entity, $version) = @{ $event->{data} }{qw(entity version)};
		my $truth = $committed->{$id};
		if (!$truth || $truth->[1] != $entity || $truth->[2] != $version)
		{
			push @{ $found{phantoms} }, "$id entity $entity version $version";
			next;
		}
		push @{ $found{inversions} }, "key $key: version $version after $versions{$key}"
		  if defined $versions{$key} && $version <= $versions{$key};
		$versions{$key} = $version;
		push @{ $found{sequence_inversions} },
		  "$partition: $event->{sequence} after $sequences{$partition}"
		  if defined $sequences{$partition} && $event->{sequence} le $sequences{$partition};
		$sequences{$partition} = $event->{sequence};
		push @{ $found{moved} }, "key $key: $partition and $partitions{$key}"
		  if defined $partitions{$key} && $partition ne $partitions{$key};
		$partitions{$key} = $partition;
	}
	$found{missing} = [
		map { "$_ entity $committed->{$_}[1] version $committed->{$_}[2]" }
		grep { !$seen{$_} } sort keys %$committed
	];
	return \%found;
}

sub _none
{
	my ($name, @found) = @_;
	return 1 if is(scalar(@found), 0, $name);
	diag join("\n", @found[ 0 .. ($#found > 4 ? 4 : $#found) ]);
	return 0;
}

=pod

=back

=cut

package DurableEvent::Oracle::Writers;

sub stop
{
	my ($self) = @_;
	return if $self->{done}++;
	$self->{process}->signal('TERM');
	eval { $self->{process}->finish };
	return;
}

# True when it ended well, so not because the server went away.
sub wait
{
	my ($self) = @_;
	return 1 if $self->{done}++;
	return eval { $self->{process}->finish } ? 1 : 0;
}

sub output { return ${ $_[0]->{out} }; }

sub DESTROY
{
	my ($self) = @_;

	# may run when the test has died already, whose exit code this must not change
	local ($?, $!, $@);
	$self->stop;
	return;
}

1;
