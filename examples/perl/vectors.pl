#!/usr/bin/env perl
# The vectors of tests/vectors that concern a client: perl vectors.pl ../../tests/vectors
use v5.30;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Syncd;

my $folder = shift // "$FindBin::Bin/../../tests/vectors";
my ($run, $failed) = (0, 0);
sub text { return Syncd::encode($_[0]) }

sub read_json {
    open my $file, "<:raw", "$folder/$_[0]" or die "$_[0]: $!\n";
    local $/;
    return Syncd::decode(<$file>);
}

sub is {
    my ($what, $got, $expect) = @_;
    $run++;
    return if text($got) eq text($expect);
    $failed++;
    say "not so: $what\n  here    ", text($got), "\n  vectors ", text($expect);
}

my $clock = read_json("clock.json");
for (@{$clock->{parse}}) {
    is("parse $_->{text}", Syncd::micros($_->{text}), 0 + $_->{micros});
    is("write $_->{text}", Syncd::canonical($_->{text}), $_->{canonical});
}
is("invalid $_", Syncd::micros($_), undef) for @{$clock->{invalid}};
for (@{$clock->{order}}) {
    my ($smaller, $greater) = map { {at => Syncd::instant($_->[0]), clientId => $_->[1]} } @$_{qw(smaller greater)};
    is("order", [Syncd::order($smaller, $greater), Syncd::order($greater, $smaller)], [-1, 1]);
}
is($_->{name}, Syncd::tick($_->{last}, $_->{wall}), $_->{expect}) for @{$clock->{tick}};


sub permuted {
    my @of = @_ or return [];
    return map { my @rest = @of; my $one = splice @rest, $_, 1; map { [$one, @$_] } permuted(@rest) } 0 .. $#of;
}

for my $vector (@{read_json("merge.json")}) {
    for my $order ($vector->{anyOrder} ? permuted(@{$vector->{changes}}) : $vector->{changes}) {
        my $held = {};
        Syncd::merge($held, Syncd::registers($_)) for @$order;
        is($vector->{name}, $held, $vector->{expect}{registers});
        is("$vector->{name}: deleted", Syncd::deleted($held) ? 1 : 0, $vector->{expect}{deleted} ? 1 : 0);
    }
}

my $replica = read_json("replica.json");
is($_->{name}, Syncd::replaces($_->{held}, $_->{incoming}) ? "incoming" : "held", $_->{stands}) for @{$replica->{lowered}};
is($_->{name}, Syncd::overlay($_->{confirmed}, $_->{client}, @{$_->{unsent}}), $_->{expect}) for @{$replica->{overlay}};
is($_->{name}, Syncd::stamp(@$_{qw(last wall replaces sent)}), $_->{expect}) for @{$replica->{write}};

my $digest = read_json("digest.json");
for (@{$digest->{records}}) {
    is($_->{name}, unpack("H*", Syncd::digest(@$_{qw(table id registers)})), $_->{digest});
    is("$_->{name}: bucket", Syncd::bucket(@$_{qw(table id)}), $_->{bucket});
}
for my $set (@{$digest->{sets}}) {
    my @members = @{$set->{members} // []};
    for my $n (0 .. ($set->{generated} // 0) - 1) {
        my $at = sprintf "2026-01-01T00:00:%02d.%06dZ", $n % 60, $n;
        push @members, {table => "tasks", id => "t$n", registers => {n => {at => $at, clientId => "phone"}}};
    }
    my $got = Syncd::digests(@members);
    is($set->{name}, [@$got{qw(records digest)}], [@$set{qw(records digest)}]);
    is("$set->{name}: buckets", $got->{buckets}, $set->{buckets}) if $set->{buckets};
    my @first = (scalar @{$got->{buckets}}, $got->{buckets}[0]);
    is("$set->{name}: buckets", \@first, [@$set{qw(bucketCount firstBucket)}]) if $set->{bucketCount};
}

# The shortest digits that give a double back (P102).
sub shortest {
    my $double = unpack "d", pack "d", shift;
    for my $digits (0 .. 16) { my $text = sprintf "%.${digits}e", $double; return $text if unpack("d", pack "d", $text) == $double }
}

# Whether the digits of an integer are those that a double is printed with, so that it may be one (P235).
sub is_double {
    my ($text) = @_;
    return 1 if $text =~ /[.eE]/;
    my ($sign, $first, $rest, $exponent) = shortest($text) =~ /\A(-?)(\d)\.?(\d*)e\+(\d+)\z/ or return 0;
    return 0 if length $rest > $exponent;
    return $text eq $sign . $first . $rest . "0" x ($exponent - length $rest);
}

for my $number (@{read_json("numbers.json")}) {
    my $back = $number->{back};
    is("$number->{name}: kind", is_double($back) ? "double" : "integer", $number->{kind}) if $number->{kind} ne "both";
    my $again = Syncd::encode(Syncd::decode($number->{sent}));
    is("$number->{name}: written", $again == $number->{sent} ? 1 : 0, 1);
    if ($number->{kind} eq "integer") { is("$number->{name}: digits", Syncd::encode(Syncd::decode($back)) eq $back ? 1 : 0, 1) }
    else { is("$number->{name}: value", $back == $number->{sent} ? 1 : 0, 1) }
}

my $order = read_json("cursor.json")->{order};
is("cursors are in the order of text", [sort @$order], $order);

say "$run checks, $failed failed";
exit($failed ? 1 : 0);
