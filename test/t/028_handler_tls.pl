# Handlers behind TLS.
#
# Guards against: requests that wait for a connection which another is just making, and which
# hangs; certificates that are not checked.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use DurableEvent::Handler;
use DurableEvent::Kafka;
use DurableEvent::Node;
use DurableEvent::Util qw(run_ok);
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = DurableEvent::Kafka->shared;
my $dir = PostgreSQL::Test::Utils::tempdir;
my @files = (cert => "$dir/handler.crt", key => "$dir/handler.key");
run_ok('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
	'-keyout', "$dir/handler.key", '-out', "$dir/handler.crt",
	'-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1');
my $handler = DurableEvent::Handler->new(@files);

# In front of the handler: the first connection is taken and left alone, others are passed on.
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64, Proto => 'tcp')
  or die "listen: $!\n";
my $front = $listener->sockport;
my $child = fork // die "fork: $!\n";
if ($child == 0)
{
	my $select = IO::Select->new($listener);
	my (%other, $stuck);
	while (my @ready = $select->can_read)
	{
		foreach my $socket (@ready)
		{
			if ($socket == $listener)
			{
				my $client = $listener->accept or next;
				if (!defined $stuck)
				{
					$stuck = $client;
					next;
				}
				my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $handler->port)
				  or next;
				@other{ $client, $server } = ($server, $client);
				$select->add($client, $server);
			}
			elsif (sysread($socket, my $bytes, 65536))
			{
				syswrite($other{$socket}, $bytes);
			}
			else
			{
				my $peer = $other{$socket};
				$select->remove($socket, $peer);
				delete @other{ $socket, $peer };
				close($_) foreach $socket, $peer;
			}
		}
	}
	POSIX::_exit(0);
}
END { my $status = $?; kill('KILL', $child) if $child; $? = $status; }
$listener->close;

my $node = DurableEvent::Node->create(
	'main',
	kafka => $kafka,
	settings => {
		'durable_event.proxy' => 'primary',
		'durable_event.topic_partitions' => 2
	});

sub group_column
{
	my ($name, $column) = @_;
	return $node->safe_psql('postgres',
		"SELECT $column FROM durable_event.stat_group WHERE group_name = '$name'");
}

# ---- nobody knows who signed it

my $topic = $node->topic('t');
$kafka->create_topic($topic, 2);
$kafka->produce($topic, [ map { { payload => '{}', partition => $_ } } 0, 1 ]);
$node->create_group('checked', topics => [$topic], handler_url => $handler->url('/checked'), backoff_max => '200 ms');
$node->wait_query(q{SELECT last_error ~ '^TLS: ' FROM durable_event.stat_group WHERE group_name = 'checked'},
	'a certificate that cannot be checked to be refused', 't');
is($handler->stats->{total}{requests} // 0, 0, 'nothing was sent to it');
$node->reconfigure('durable_event.handler_ca_file' => "$dir/handler.crt");
$handler->wait_for_events(2, group => 'checked', acknowledged => 1);
pass('durable_event.handler_ca_file by SIGHUP');
$node->drop_group('checked');

# ---- a handshake that hangs

# connecting is part of the time-out
$node->create_group('hung', topics => [$topic], handler_url => "https://127.0.0.1:$front/hung", timeout => '3 s');
$handler->wait_for_events(1, group => 'hung', acknowledged => 1);
is(group_column('hung', 'last_error'), '',
	'the other partition is served while the first connection hangs');
$handler->wait_for_events(2, group => 'hung', acknowledged => 1);
pass('and the first one by another connection');

$node->stop('fast');
done_testing();
