
=pod

=head1 NAME

DurableEvent::Handler - the scriptable HTTP handler (test/handler/handler)

=head1 SYNOPSIS

  my $handler = DurableEvent::Handler->new;
  my $url = $handler->url('/invoices');
  $handler->control({ path => '/invoices', status => 500, times => 3 });
  $handler->wait_for_events(10, path => '/invoices');
  my @requests = $handler->requests(path => '/invoices');

=cut

package DurableEvent::Handler;

use strict;
use warnings;

use DurableEvent::Util qw(json_decode json_encode test_dir wait_until);
use HTTP::Tiny;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my @started;

=pod

=head1 METHODS

=over

=item DurableEvent::Handler->new(%options)

Starts one.  Options: quiet => 1 (figures and order checks, no log, no lists: for load),
secrets => [...] (verify signatures), cert => file, key => file (TLS), entity => name and version =>
name (fields of an event's data for the order check), port => n.

=cut

sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		%options,
		dir => PostgreSQL::Test::Utils::tempdir('handler'),
		http => HTTP::Tiny->new(timeout => 30)
	}, $class;

	push @started, $self;
	$self->start;
	return $self;
}

=item start, stop, kill

A handler started again has its old port and goes on with its old log; scripts and figures are gone.
While it is stopped connections are refused.

=cut

sub start
{
	my ($self) = @_;
	return if $self->{process};

	my ($out, $err) = ('', '');
	my $process = IPC::Run::start(
		[
			test_dir() . '/handler/handler',
			'--log', $self->log,
			map({ defined $self->{$_} ? ("--$_", $self->{$_}) : () } qw(port cert key entity version)),
			map({ ('--secret', $_) } @{ $self->{secrets} // [] }),
			$self->{quiet} ? '--quiet' : ()
		],
		'<', \'', '>', \$out, '2>', \$err);
	my $last = $self->{cert} ? 'CONTROL' : 'LISTENING';
	wait_until(
		sub {
			$process->pump_nb;
			die "handler: $err\n" unless $process->pumpable;
			$out =~ /^$last .*\n/m;
		},
		'the handler to listen', 30);
	$self->{process} = $process;
	($self->{port}) = $out =~ /^LISTENING \S+:(\d+)$/m;
	($self->{control_port}) = $out =~ /^$last \S+:(\d+)$/m;
	return;
}

sub stop { my ($self) = @_; return $self->_end('TERM'); }
sub kill { my ($self) = @_; return $self->_end('KILL'); }

sub _end
{
	my ($self, $signal) = @_;
	my $process = delete $self->{process} or return;
	$process->signal($signal);
	# a killed one is an error to IPC::Run
	eval { $process->finish };
	return;
}

=item port, url($path), log

url: http://127.0.0.1:port/path, https with TLS.  log: the file, a line of JSON for each request.

=cut

sub port { return $_[0]->{port}; }
sub log { return "$_[0]->{dir}/requests.log"; }

sub url
{
	my ($self, $path) = @_;
	return ($self->{cert} ? 'https' : 'http') . "://127.0.0.1:$self->{port}" . ($path // '/');
}

=item control(\%step, ...)

Scripts how deliveries are answered from now on: replaces the scripts of the paths and groups named.
A step says for which requests it is (path, group: both optional, the most specific script wins) and
what to do: status (200), body (string, or data to encode; default {} with 200), headers => {},
delay_ms, hang => 1 (never answer), close => 'before' (no answer) or 'mid' (half a body), times => n
(then the next step for the same path and group; without it the step stays).  After the last step
comes the default: 200 with {}.

=item clear

No scripts.

=item reset

No scripts, no figures, no lists; the log stays.

=cut

sub control
{
	my ($self, @steps) = @_;
	$self->_request('POST', '/_control', json_encode(\@steps));
	return;
}

sub clear { my ($self) = @_; $self->_request('POST', '/_clear', ''); return; }
sub reset { my ($self) = @_; $self->_request('POST', '/_reset', ''); return; }

=item stats

Hash reference: total and groups => { name => ... } with requests, events, acknowledged, unique,
duplicates, version_violations, sequence_violations, missing_versions, overlaps (a request for a
partition that had one under way), in_flight, max_in_flight, bad_signatures, first_violation; paths
=> { path => requests }; malformed (bodies that are no JSON); latency_ms => { count, p50, p90, p99,
max } from the event's time to its first arrival.

=item events(path => $path, group => $group, acknowledged => 1)

Events in order of arrival, each [kafkatopic, kafkapartition, kafkaoffset, id, subject, sequence];
all options are optional.  Not with quiet.

=item wait_for_events($n [, path, group, acknowledged] [, timeout => s])

Waits until events() with these options are at least $n, then returns them.

=cut

sub stats { return json_decode($_[0]->_request('GET', '/_stats')); }

sub events
{
	my ($self, %options) = @_;
	my @query = map { "$_=" . _escape($options{$_}) }
	  grep { defined $options{$_} } qw(path group acknowledged);
	return @{ json_decode($self->_request('GET', '/_events?' . join('&', @query))) };
}

sub wait_for_events
{
	my ($self, $n, %options) = @_;
	my @events;
	wait_until(sub { (@events = $self->events(%options)) >= $n },
		sub { "$n events at the handler, it has " . scalar(@events) }, $options{timeout});
	return @events;
}

sub _escape
{
	my ($text) = @_;
	$text =~ s/([^A-Za-z0-9_.-])/sprintf('%%%02X', ord($1))/ge;
	return $text;
}

sub _request
{
	my ($self, $method, $path, $content) = @_;
	my $response = $self->{http}->request($method, "http://127.0.0.1:$self->{control_port}$path",
		defined $content ? { content => $content } : {});
	die "handler: $method $path: $response->{status} $response->{content}\n"
	  unless $response->{success};
	return $response->{content};
}

=item requests(path => $path, group => $group)

The log: a hash reference for each request in order of arrival, with time (unix microseconds), path,
headers (lower case), status (as answered; undef = hung or closed), signature ('ok', 'bad', 'absent';
only with secrets), and body (decoded JSON; body_base64 when it is none).  Survives kill.

=cut

sub requests
{
	my ($self, %options) = @_;
	my @requests;
	return @requests unless -e $self->log;
	@requests = map { json_decode($_) } split /\n/, slurp_file($self->log);
	@requests = grep { $_->{path} eq $options{path} } @requests if defined $options{path};
	@requests = grep { ($_->{headers}{'durable-event-group'} // '') eq $options{group} } @requests
	  if defined $options{group};
	return @requests;
}

=pod

=back

=cut

END
{
	my $exit_code = $?;
	$_->stop foreach @started;
	$? = $exit_code;
}

1;
