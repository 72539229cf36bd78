
=pod

=head1 NAME

DurableEvent::Rig - the opening of a TAP test

=head1 SYNOPSIS

  use FindBin;
  use lib "$FindBin::RealBin/../lib";
  use DurableEvent::Rig;

  my ($node, $kafka, $handler) = rig('main', settings => { 'durable_event.proxy' => 'primary' });
  ...
  done_testing();

=head1 DESCRIPTION

Switches on strict and warnings, and brings along Test::More, PostgreSQL::Test::Utils, all functions
of DurableEvent::Util and the modules Node, Kafka, Handler and Oracle.

=cut

package DurableEvent::Rig;

use strict;
use warnings;

use DurableEvent::Handler;
use DurableEvent::Kafka;
use DurableEvent::Node;
use DurableEvent::Oracle;
use DurableEvent::Util;
use PostgreSQL::Test::Utils;
use Test::More;

sub import
{
	my $caller = caller;

	strict->import;
	warnings->import;
	eval qq{package $caller;
		use DurableEvent::Util \@DurableEvent::Util::EXPORT_OK;
		use PostgreSQL::Test::Utils;
		use Test::More;
		1} or die $@;
	no strict 'refs';
	*{"${caller}::rig"} = \&rig;
	return;
}

=pod

=head1 FUNCTIONS

=over

=item rig($name, %options)

A started server of that name, with Kafka and a handler: returns ($node, $kafka, $handler).  Options:

  kafka    a DurableEvent::Kafka; default: the shared one, which must not be stopped
  handler  array reference: options of DurableEvent::Handler->new; 0 = no handler
  others   as DurableEvent::Node->create takes them; those of settings are added to

With a handler durable_event.proxy is primary unless settings say otherwise.

=back

=cut

sub rig
{
	my ($name, %options) = @_;
	my $kafka = delete $options{kafka} // DurableEvent::Kafka->shared;
	my $with = delete $options{handler} // [];
	my $handler = $with ? DurableEvent::Handler->new(@$with) : undef;
	my %settings =
	  (($handler ? ('durable_event.proxy' => 'primary') : ()), %{ delete $options{settings} // {} });

	my $node = DurableEvent::Node->create($name, kafka => $kafka, settings => \%settings, %options);
	return ($node, $kafka, $handler);
}

1;
