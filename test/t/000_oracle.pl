# The oracle of the other tests finds what it is there to find: each fault, put into a faultless
# run by hand, is seen as that fault and no other.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my @faults = qw(missing phantoms inversions sequence_inversions moved);

# Two entities, three versions each, in one partition, in commit order.
sub run_without_fault
{
	my (%committed, @events);
	my $sequence = 0;
	foreach my $version (1 .. 3)
	{
		foreach my $entity (1, 2)
		{
			my $id = "$entity-$version";
			$committed{$id} = [ 'oracle_0', $entity, $version ];
			push @events,
			  {
				id => $id,
				key => $entity,
				partition => 'topic 0',
				sequence => sprintf('%020d', ++$sequence),
				data => { entity => $entity, version => $version }
			  };
		}
	}
	return (\%committed, \@events);
}

sub finds
{
	my ($name, $damage, %expected) = @_;
	my ($committed, $events) = run_without_fault();
	$damage->($committed, $events);
	my $found = DurableEvent::Oracle::examine($committed, $events);
	my %counts = (duplicates => $found->{duplicates}, map { ($_ => scalar @{ $found->{$_} }) } @faults);
	is_deeply(\%counts, { duplicates => 0, (map { ($_ => 0) } @faults), %expected }, $name);
	return;
}

finds('nothing', sub { });
finds('a lost event', sub { splice @{ $_[1] }, 2, 1 }, missing => 1);
finds('an event that was rolled back', sub { delete $_[0]->{'1-2'} }, phantoms => 1);
finds('an event with another content', sub { $_[1]->[2]{data}{version} = 7 }, phantoms => 1);
finds('versions of a key the wrong way round, ids in order',
	sub { @{ $_[0] }{qw(1-1 1-2)} = @{ $_[0] }{qw(1-2 1-1)}; $_->{data}{version} = $_[0]->{ $_->{id} }[2] foreach @{ $_[1] } },
	inversions => 1);
finds('transactions of two keys the wrong way round',
	sub { @{ $_[1] }[ 2, 3 ] = @{ $_[1] }[ 3, 2 ] },
	sequence_inversions => 1);
finds('a key in two partitions', sub { $_[1]->[4]{partition} = 'topic 1' }, moved => 1);
finds('a replayed run', sub { splice @{ $_[1] }, 4, 0, @{ $_[1] }[ 1 .. 3 ] }, duplicates => 3);
finds('a late first occurrence behind a replay',
	sub { push @{ $_[1] }, $_[1]->[0], splice(@{ $_[1] }, 2, 1) },
	duplicates => 1, inversions => 1, sequence_inversions => 1);

done_testing;
