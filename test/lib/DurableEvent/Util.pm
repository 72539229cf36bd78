
=pod

=head1 NAME

DurableEvent::Util - what the other test modules share

=head1 DESCRIPTION

Tests wait on conditions, never on clocks: wait_until() is the only wait.

=cut

package DurableEvent::Util;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(basename dirname);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT_OK = qw(wait_until json_decode json_encode test_dir test_prefix run_ok);

# A test that is told to end must stop its servers: without a handler Perl skips all END blocks.
$SIG{TERM} = $SIG{INT} = $SIG{HUP} = sub { die "ended by SIG$_[0]\n" };

# Strings stay bytes: payloads need not be UTF-8, and comparisons with literals just work.  Without
# latin1 what is encoded is marked as characters, and IPC::Run would write them as UTF-8 again.
my $json_class = eval { require JSON::XS; 1 } ? 'JSON::XS' : do { require JSON::PP; 'JSON::PP' };
my $json = $json_class->new->allow_nonref->canonical->latin1;

=pod

=head1 FUNCTIONS

=over

=item wait_until($condition, $what [, $timeout])

Calls the code reference until it returns true and returns that; polls every 20 to 200 ms.  After
$timeout seconds (default: PG_TEST_TIMEOUT_DEFAULT, 180) dies naming $what (a string, or a code
reference that returns one, for the last state seen).

=cut

sub wait_until
{
	my ($condition, $what, $timeout) = @_;
	my $deadline = time + ($timeout // $PostgreSQL::Test::Utils::timeout_default);
	my $pause = 20_000;

	for (;;)
	{
		my $result = $condition->();
		return $result if $result;
		if (time > $deadline)
		{
			$what = $what->() if ref $what;
			die "timed out waiting for $what\n";
		}
		usleep($pause);
		$pause = $pause * 1.3 if $pause < 200_000;
	}
}

=item json_decode($bytes), json_encode($data)

Strings are bytes (UTF-8 as it stands in the JSON text), in both directions.

=cut

sub json_decode { return $json->decode($_[0]); }
sub json_encode { return $json->encode($_[0]); }

=item test_dir()

The folder test/ of the source tree.

=cut

sub test_dir { return dirname(dirname(dirname(abs_path(__FILE__)))); }

=item test_prefix()

A name that no other test run uses, for topics and groups in a Kafka that tests share: name of the
test file and process id, ending in a dot.

=cut

sub test_prefix
{
	my $name = basename($0);
	$name =~ s/\.[^.]*$//;
	$name =~ s/[^a-zA-Z0-9_]/_/g;
	return "$name.$$.";
}

=item run_ok(@command)

Runs a program and returns its standard output; dies with its standard error if it fails.

=cut

sub run_ok
{
	my @command = @_;
	my ($stdout, $stderr) = ('', '');
	IPC::Run::run(\@command, '<', \'', '>', \$stdout, '2>', \$stderr)
	  or die "@command failed: $stderr$stdout\n";
	return $stdout;
}

=pod

=back

=cut

1;
