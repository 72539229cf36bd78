# From SQL to Kafka to HTTP handlers, on real parts, one attribute after the other.
#
# Guards against: a changed name or format of anything that consumers and handlers read (headers,
# CloudEvents attributes, protocol headers, signature), and offsets that are not committed.

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DurableEvent::Rig;

my $kafka = DurableEvent::Kafka->shared;
my $batch_handler = DurableEvent::Handler->new(secrets => ['whsec_c2VjcmV0IG9mIHRvZGF5']);
my $single_handler = DurableEvent::Handler->new(secrets => ['secret of yesterday']);
my $node = DurableEvent::Node->create(
	'main',
	kafka => $kafka,
	source => 'urn:test:end-to-end',
	settings => {
		'durable_event.proxy' => 'primary',
		'durable_event.signing_secret' => 'whsec_c2VjcmV0IG9mIHRvZGF5',
		'durable_event.signing_secret_previous' => 'secret of yesterday'
	});

# The times of all events, as the CloudEvents attribute is written.
my $rows = q{SELECT event_id, id,
	to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
	FROM durable_event.outbox ORDER BY id};

sub outbox
{
	my %outbox;
	foreach (split /\n/, $node->safe_psql('postgres', $rows))
	{
		my ($event_id, $id, $time) = split /\|/;
		$outbox{$event_id} = { id => $id, time => $time, sequence => sprintf('%020d', $id) };
	}
	return \%outbox;
}

# ---- what can be published, and the record that comes of it

my $parent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
my $json_id = $node->publish('invoice_revised', 'k 1', { amount => 10, who => 'Zoë' },
	{ traceparent => $parent, tenant => 'é1', 'x-Note' => 'as given' });
my $binary_id = $node->safe_psql('postgres',
	q{SELECT durable_event.publish_binary_event('photo_taken', 'k2', '\x01ff00fe', 'image/x-raw', '{"a": "1"}')}
);
my $tombstone_id = $node->publish('invoice_revised', 'k3', undef);
my $keyless_id = $node->publish('invoice_revised', undef, [ 1, 'two', undef ]);
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE customer (id int PRIMARY KEY, name text, secret text);
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON customer
	FOR EACH ROW EXECUTE FUNCTION durable_event.publish_row('customer_changed', 'id', 'columns=id,name');
INSERT INTO customer VALUES (7, 'Ann', 's');
UPDATE customer SET name = 'Bob';
DELETE FROM customer;
SQL
ok($node->flush, 'all is acknowledged by Kafka');
my $outbox = outbox();

my %records = map { ($_->{headers}{ce_id} => $_) } map { $kafka->consume($node->topic($_)) }
  qw(invoice_revised photo_taken customer_changed);

sub is_record
{
	my ($name, $id, $key, $payload, @headers) = @_;
	my $record = $records{$id};

	is($record->{key}, $key, "$name: key");
	is($record->{payload}, $payload, "$name: payload");
	is_deeply(
		$record->{header_list},
		[
			ce_specversion => '1.0',
			ce_id => $id,
			ce_source => 'urn:test:end-to-end',
			ce_type => $headers[0],
			ce_time => $outbox->{$id}{time},
			defined $key ? (ce_subject => $key) : (),
			ce_sequence => $outbox->{$id}{sequence},
			@headers[ 1 .. $#headers ]
		],
		"$name: headers");
	return;
}

# jsonb keeps neither the order of keys nor that of headers
is_record(
	'JSON event', $json_id, 'k 1', '{"who": "Zoë", "amount": 10}', 'invoice_revised',
	'content-type' => 'application/json',
	tenant => 'é1', 'x-Note' => 'as given', traceparent => $parent);
is_record(
	'binary event', $binary_id, 'k2', "\x01\xff\x00\xfe", 'photo_taken',
	'content-type' => 'image/x-raw', a => '1');
is_record('tombstone', $tombstone_id, 'k3', undef, 'invoice_revised',
	'content-type' => 'application/json');
is_record('event without key', $keyless_id, undef, '[1, "two", null]', 'invoice_revised',
	'content-type' => 'application/json');

my @rows = $kafka->consume($node->topic('customer_changed'));
is(join(' ', map { $_->{key} } @rows), '7 7 7', 'publish_row: the key column');
is_deeply(
	[ map { json_decode($_->{payload}) } @rows ],
	[
		{ op => 'created', new => { id => 7, name => 'Ann' } },
		{ op => 'updated', new => { id => 7, name => 'Bob' }, old => { id => 7, name => 'Ann' } },
		{ op => 'deleted', old => { id => 7, name => 'Bob' } }
	],
	'publish_row: operations with the chosen columns');

# more, so that there are batches
$node->safe_psql('postgres', <<'SQL');
SELECT durable_event.publish_event('step', 'e' || i % 5, jsonb_build_object('entity', i % 5, 'version', i))
	FROM generate_series(1, 118) AS i;
SQL
ok($node->flush, 'and more events');

# ---- groups

my @all_types = qw(invoice_revised photo_taken customer_changed step);
$batch_handler->control({ path => '/batch', status => 500, times => 2 });
$node->create_group(
	'batches',
	event_types => \@all_types,
	handler_url => $batch_handler->url('/batch'),
	batch_max_events => 20,
	backoff_min => '1 ms',
	backoff_max => '2 ms',
	timeout => '7 s',
	handler_headers => { authorization => 'Bearer x' });
$node->create_group(
	'singles',
	event_types => [ 'invoice_revised', 'photo_taken' ],
	mode => 'single',
	handler_url => $single_handler->url('/single'));

my $total = 4 + 3 + 118;
$batch_handler->wait_for_events($total, acknowledged => 1);
$single_handler->wait_for_events(4, acknowledged => 1);
is($single_handler->stats->{total}{requests}, 4, 'single mode: a request for each event');

my @requests = $batch_handler->requests;
my %largest = (0 => 0);
foreach my $request (grep { $_->{status} == 200 } @requests)
{
	$largest{ scalar @{ $request->{body} } }++;
}
cmp_ok((sort { $b <=> $a } keys %largest)[0], '<=', 20, 'batches are not larger than allowed');
cmp_ok((sort { $b <=> $a } keys %largest)[0], '>', 1, 'batches hold several events');
is($batch_handler->stats->{total}{$_}, 0, "batch mode: no $_")
  foreach qw(bad_signatures version_violations sequence_violations overlaps);
is($single_handler->stats->{total}{bad_signatures}, 0, 'the previous secret signs, too');
is_deeply(
	[ sort map { $_->[3] } $batch_handler->events(acknowledged => 1) ],
	[ sort keys %{ outbox() } ],
	'every event was acknowledged once');

# the event bodies: attributes and their JSON types
my %bodies;
foreach my $request (@requests, $single_handler->requests)
{
	my $body = $request->{body};
	push @{ $bodies{ $_->{id} } }, $_ foreach ref $body eq 'ARRAY' ? @$body : $body;
}

sub is_event
{
	my ($name, $id, %attributes) = @_;
	my $record = $records{$id};

	is(scalar @{ $bodies{$id} } >= 2, 1, "$name: came to both groups");
	foreach my $body (@{ $bodies{$id} })
	{
		is(
			json_encode($body),
			json_encode(
				{
					specversion => '1.0',
					id => $id,
					source => 'urn:test:end-to-end',
					time => $outbox->{$id}{time},
					sequence => $outbox->{$id}{sequence},
					kafkatopic => $record->{topic},
					kafkapartition => $record->{partition} + 0,
					kafkaoffset => "$record->{offset}",
					defined $record->{key}
					? (subject => $record->{key}, partitionkey => $record->{key})
					: (),
					%attributes
				}),
			"$name: attributes");
	}
	return;
}
# "x-Note" is no legal name of an attribute
is_event(
	'JSON event', $json_id,
	type => 'invoice_revised',
	datacontenttype => 'application/json',
	data => { amount => 10, who => 'Zoë' },
	tenant => 'é1',
	traceparent => $parent);
is_event(
	'binary event', $binary_id,
	type => 'photo_taken',
	datacontenttype => 'image/x-raw',
	data_base64 => 'Af8A/g==',
	a => '1');
is_event('tombstone', $tombstone_id, type => 'invoice_revised');
is_event(
	'event without key', $keyless_id,
	type => 'invoice_revised',
	datacontenttype => 'application/json',
	data => [ 1, 'two', undef ]);

# the requests: protocol headers
foreach my $request (@requests, $single_handler->requests)
{
	my $h = $request->{headers};
	my $single = $request->{path} eq '/single';
	my @events = $single ? $request->{body} : @{ $request->{body} };
	my $name = "$h->{'durable-event-group'} $h->{'durable-event-topic'} $h->{'durable-event-partition'}"
	  . " $h->{'durable-event-first-offset'}";
	my @offsets = map { $_->{kafkaoffset} } @events;
	my @expected = (
		[ 'content-type', $single ? 'application/cloudevents+json' : 'application/cloudevents-batch+json' ],
		[ 'durable-event-group', $single ? 'singles' : 'batches' ],
		[ 'durable-event-topic', $events[0]{kafkatopic} ],
		[ 'durable-event-partition', $events[0]{kafkapartition} ],
		[ 'durable-event-first-offset', $offsets[0] ],
		[ 'durable-event-last-offset', $offsets[-1] ],
		[ 'durable-event-timeout-ms', $single ? 30000 : 7000 ],
		[ 'authorization', $single ? undef : 'Bearer x' ],
		[ 'transfer-encoding', undef ],
		[ 'expect', undef ]);
	my @wrong = grep { ($h->{ $_->[0] } // '(none)') ne ($_->[1] // '(none)') } @expected;
	my %patterns = (
		'webhook-id' => qr/^deb_[0-9a-zA-Z_-]+$/,
		'webhook-timestamp' => qr/^\d{10}$/,
		'webhook-signature' => qr/^v1,[A-Za-z0-9+\/]{43}= v1,[A-Za-z0-9+\/]{43}=$/,
		'traceparent' => qr/^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/,
		'durable-event-attempt' => qr/^[123]$/,
		'durable-event-term' => qr/^\d+$/);
	push @wrong, map { [ $_, $patterns{$_} ] }
	  grep { ($h->{$_} // '') !~ $patterns{$_} } sort keys %patterns;
	push @wrong, [ 'one partition', $_->{kafkapartition} ]
	  foreach grep { $_->{kafkapartition} != $events[0]{kafkapartition} } @events;
	push @wrong, [ 'offsets', "@offsets" ]
	  if "@offsets" ne join(' ', sort { $a <=> $b } @offsets);
	ok(!@wrong, "request $name: headers")
	  or diag explain { expected => \@wrong, headers => $h };
}
my ($traced) = grep { $_->{body}{id} eq $json_id } $single_handler->requests;
like($traced->{headers}{traceparent}, qr/^00-0af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)/,
	"the delivery is a child of the event's trace");

# the same body has the same id on every attempt; no other body has it
my %by_id;
push @{ $by_id{ $_->{headers}{'webhook-id'} } }, $_ foreach @requests, $single_handler->requests;
my @retried = grep { @$_ > 1 } values %by_id;
is(scalar @requests - scalar(grep { $_->{path} eq '/batch' } map { $_->[0] } values %by_id),
	2, 'two attempts failed, and were made again under their ids');
foreach my $attempts (@retried)
{
	is(join(' ', map { $_->{headers}{'durable-event-attempt'} } @$attempts),
		join(' ', 1 .. @$attempts), 'attempts are counted');
	my %bodies = map { (json_encode($_->{body}) => 1) } @$attempts;
	is(scalar keys %bodies, 1, 'and their bodies are the same');
}

# ---- offsets: committed when all is acknowledged, exactly to the ends

foreach my $group ([ 'batches', @all_types ], [ 'singles', 'invoice_revised', 'photo_taken' ])
{
	my ($name, @types) = @$group;
	my %ends;
	foreach my $topic (map { $node->topic($_) } @types)
	{
		my $ends = $kafka->ends($topic);
		$ends{"$topic $_"} = $ends->{$_}{high} foreach grep { $ends->{$_}{high} > 0 } keys %$ends;
	}
	my $committed;
	my $reached = eval {
		wait_until(
			sub {
				$committed = $kafka->committed($node->group_id($name));
				return !grep { ($committed->{$_} // -1) != $ends{$_} } keys %ends;
			},
			'offsets to be committed');
	};
	ok($reached, "group $name: offsets are committed") or diag explain [ $committed, \%ends ];
}
$node->wait_query('SELECT sum(lag) = 0 FROM durable_event.stat_group', 'no lag');
is( $node->safe_psql('postgres',
		q{SELECT group_name, events_delivered, lag, in_flight FROM durable_event.stat_group ORDER BY 1}),
	"batches|$total|0|0\nsingles|4|0|0", 'stat_group says so');
is($node->safe_psql('postgres', 'SELECT state, lag, produce_errors FROM durable_event.stat_relay'),
	'running|0|0', 'stat_relay, too');

$node->stop;
done_testing();
