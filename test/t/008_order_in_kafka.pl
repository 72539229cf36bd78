# What is in Kafka is what was committed, in that order, on the partition of its key.
#
# Guards against: a rolled-back transaction or savepoint that reaches Kafka (G1), events out of
# commit order on their partition (G3), keys in other partitions than those a Java producer would
# choose.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my ($node, $kafka) = rig('main', handler => 0);

# ---- partitions: murmur2 as Java clients compute it (vectors of Kafka's own test)

my %murmur2 = (
	'21' => -973932308,
	'foobar' => -790332482,
	'a-little-bit-long-string' => -985981536,
	'a-little-bit-longer-string' => -1486304829,
	'lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8' => -58897971,
	'abc' => 479470107);
foreach my $round (1, 2)
{
	$node->publish('keyed', $_, { round => $round }) foreach sort keys %murmur2;
}
ok($node->flush, 'keyed events are acknowledged');
is($kafka->topics->{ $node->topic('keyed') }, 4, 'four partitions by default');
my %partitions;
$partitions{ $_->{key} }{ $_->{partition} }++ foreach $kafka->consume($node->topic('keyed'));
is_deeply(
	\%partitions,
	{ map { ($_ => { ($murmur2{$_} & 0x7fffffff) % 4 => 2 }) } keys %murmur2 },
	'a key goes to the partition that a Java producer would choose');

# ---- G1, G3: exactly what is committed, in order

$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION step(entity int, version int) RETURNS void LANGUAGE sql
	AS $$ SELECT durable_event.publish_event('step', 'e' || entity,
		jsonb_build_object('entity', entity, 'version', version)) $$;
SELECT step(i % 5, i) FROM generate_series(1, 50) i;
BEGIN;
SELECT step(1, 901);
SELECT step(2, 902);
ROLLBACK;
BEGIN;
SELECT step(1, 101);
SAVEPOINT a;
SELECT step(1, 903);
SAVEPOINT b;
SELECT step(2, 904);
RELEASE b;
ROLLBACK TO a;
SELECT step(2, 102);
SAVEPOINT c;
SELECT step(3, 103);
RELEASE c;
SELECT step(1, 104);
COMMIT;
DO $$
BEGIN
	PERFORM step(4, 105);
	BEGIN
		PERFORM step(4, 905);
		PERFORM 1 / 0;
	EXCEPTION WHEN division_by_zero THEN
		PERFORM step(4, 106);
	END;
END
$$;
SELECT step(i % 5, 200 + i) FROM generate_series(1, 50) i;
SQL
$node->psql('postgres', 'BEGIN; SELECT step(1, 906); SELECT 1 / 0; COMMIT;');
$node->psql('postgres', <<'SQL');
CREATE TABLE late (i int UNIQUE DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO late VALUES (1), (1);
SELECT step(1, 907);
COMMIT;
SQL
ok($node->flush, 'steps are acknowledged');
my @steps = $kafka->consume($node->topic('step'));
my @versions = map { json_decode($_->{payload})->{version} } @steps;
is_deeply(
	[ sort { $a <=> $b } @versions ],
	[ 1 .. 50, 101 .. 106, 201 .. 250 ],
	'every committed event once, none of what was rolled back');
is(scalar(grep { $_->{partition} != $steps[0]{partition} } @steps) > 0, 1, 'on several partitions');
my $in_order = sub {
	my ($value) = @_;
	my (%last, @wrong);
	foreach my $record (@steps)
	{
		my $now = $value->($record);
		push @wrong, $now if $now le ($last{ $record->{partition} } // '');
		$last{ $record->{partition} } = $now;
	}
	return \@wrong;
};
is_deeply($in_order->(sub { sprintf '%05d', json_decode($_[0]->{payload})->{version} }),
	[], 'in publish and commit order on every partition');
is_deeply($in_order->(sub { $_[0]->{headers}{ce_sequence} }), [], 'as ce_sequence tells');

$node->stop;
done_testing();
