
=pod

=head1 NAME

DurableEvent::Broker - the development broker (test/broker) for tests

=head1 SYNOPSIS

  my $broker = DurableEvent::Broker->new('-t', 'events:1');
  my $node = DurableEvent::Node->create('main', bootstrap => $broker->bootstrap);
  $broker->command('refuse 1 19');

=head1 DESCRIPTION

It is there in a moment and does on demand what a real Kafka does at the right moment only.  It
creates no topics when asked to (they come to be by use) and keeps little: see test/README.md.

=cut

package DurableEvent::Broker;

use strict;
use warnings;

use DurableEvent::Util qw(run_ok test_dir);
use IPC::Run;
use Test::More;

my @started;

=pod

=head1 METHODS

=over

=item DurableEvent::Broker->new(@arguments)

Starts one, ended with the test.

=item bootstrap

"127.0.0.1:port".

=item command($line)

Has it do what the line says.

=item payloads($topic)

The payloads in a topic, in the order of each partition.

=cut

sub new
{
	my ($class, @arguments) = @_;
	my $self = bless { in => '', out => '' }, $class;
	my $program = test_dir() . '/broker/broker';

	die "there is no $program: make test-programs\n" unless -x $program;
	$self->{run} = IPC::Run::start([ $program, @arguments ],
		'<', \$self->{in}, '>', \$self->{out}, IPC::Run::timeout(600));
	push @started, $self;
	($self->{bootstrap}) = $self->_line =~ /^BOOTSTRAP (.*)/ or die "the broker did not start\n";
	return $self;
}

sub bootstrap { return $_[0]->{bootstrap}; }

sub command
{
	my ($self, $line) = @_;
	$self->{in} .= "$line\n";
	my $answer = $self->_line;
	die "broker: $line: $answer\n" unless $answer eq 'OK';
	return;
}

sub _line
{
	my ($self) = @_;
	$self->{run}->pump until $self->{out} =~ s/^(.*)\n//;
	return $1;
}

sub payloads
{
	my ($self, $topic) = @_;
	return split /\n/,
	  run_ok('kcat', '-b', $self->bootstrap, '-C', '-t', $topic, '-e', '-q');
}

=pod

=back

=cut

END
{
	# take care not to change the script's exit value
	my $exit_code = $?;
	$_->{run}->kill_kill foreach @started;
	$? = $exit_code;
}

1;
