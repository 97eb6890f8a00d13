#!/usr/bin/env perl
# Events from Perl, exactly once: lines with a producer and a sequence, and one line of answer.
# Without an answer, send the same lines again: what was stored is counted as `replayed`.
use strict;
use warnings;
use IO::Socket::UNIX;
use JSON::PP;
use Socket qw(SHUT_WR);

open my $random, '<:raw', '/dev/urandom' or die "no random bytes: $!";
read $random, my $id, 16;
my %producer = (producer => unpack('H*', $id));

my $json = JSON::PP->new->utf8;
my $sequence = 0;
my @lines = map { $json->encode({ %producer, sequence => ++$sequence, %$_ }) . "\n" } (
    { type => 'audit', agent_id => 'perl', operation => 'begin', status => 'started' },
    { type => 'audit', agent_id => 'perl', operation => 'end', status => 'completed' },
);

my $path = $ENV{GGEND_SOCKET} or die "GGEND_SOCKET is not set\n";
for my $try (1 .. 3) {
    my $socket = IO::Socket::UNIX->new(Peer => $path) or next;
    print $socket @lines;
    shutdown $socket, SHUT_WR;
    my $answer = <$socket>;
    if (defined $answer) {
        my $counts = $json->decode($answer);
        print "stored $counts->{stored}, rejected $counts->{rejected}\n";
        exit($counts->{rejected} ? 1 : 0);
    }
}
die "no answer from $path\n";
