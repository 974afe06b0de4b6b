package Syncd;

# A small client of the syncd protocol, in Perl with core modules alone. The numbers in the comments are the statements of
# docs/reference/protocol.md. The pure part computes and knows neither file nor network; Syncd::Replica keeps and sends.
use v5.30;
use warnings;
use Digest::SHA qw(sha256);
use Encode qw(encode_utf8);
use JSON::PP ();

my $JSON = JSON::PP->new->utf8->canonical->allow_nonref->allow_bignum;     # bignum: integers keep every digit (P102)
use constant {LAST => 253_402_300_799_999_999, SECOND => 1_000_000};       # the end of the year 9999; 1 s

sub encode { return $JSON->encode($_[0]) }

# JSON::PP reads integers of 20 digits as doubles; with an exponent they become big numbers like the longer ones.
sub decode {
    my ($text) = @_;
    $text =~ s/("[^"\\]*+(?:\\.[^"\\]*+)*+")|(?<![0-9.eE+])([0-9]{20})(?![0-9.eE])/$1 \/\/ "${2}e0"/ge;
    return $JSON->decode($text);
}

# Microseconds since 1970 of an instant, or undef where the text is none (P46, P47).
sub micros {
    my $text = shift // return;
    return if ref $text;
    my ($y, $mo, $d, $h, $mi, $s, $digits, $zone) = $text =~ m{\A([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]
        ([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})\z}x or return;
    my $leap = $y % 4 == 0 && ($y % 100 != 0 || $y % 400 == 0);
    my @days = (31, $leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31);
    return if $mo < 1 || $mo > 12 || $d < 1 || $d > $days[$mo - 1] || $h > 23 || $mi > 59 || $s > 60;
    my $fraction = substr(($digits // "") . "000000", 0, 6);
    ($s, $fraction) = (59, 999_999) if $s == 60;
    my $offset = 0;
    if ($zone =~ /([+-])(..):(..)/) {
        return if $2 > 23 || $3 > 59;
        $offset = ($1 eq "-" ? -1 : 1) * ($2 * 60 + $3);
    }
    my $before = $y - 1;
    my $day = $before * 365 + int($before / 4) - int($before / 100) + int($before / 400) - 719_162 + $d - 1;
    $day += $days[$_] for 0 .. $mo - 2;
    my $at = ((($day * 24 + $h) * 60 + $mi - $offset) * 60 + $s) * 1_000_000 + $fraction;
    return $at < 0 ? 0 : $at > LAST ? LAST : $at;
}

# An instant in its 27 characters, whose order as text is that of time (P48).
sub instant {
    my ($us) = @_;
    my ($s, $mi, $h, $d, $mo, $y) = gmtime(($us - $us % 1_000_000) / 1_000_000);
    return sprintf "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", $y + 1900, $mo + 1, $d, $h, $mi, $s, $us % 1_000_000;
}

sub canonical { my $us = micros(shift); return defined $us ? instant($us) : undef }

# Whether stamp a is before (-1), the same as (0) or after (1) stamp b; both have `at` in 27 characters (P49).
sub order { my ($a, $b) = @_; return $a->{at} cmp $b->{at} || $a->{clientId} cmp $b->{clientId} }

# The registers that a change writes, {field: {value, at, clientId, sent?}}, in the older forms too (P35, P41, P45).
sub registers {
    my ($change) = @_;
    my %of;
    if ($change->{data}) {
        my $data = $change->{data};
        my $at = canonical($data->{updatedAt}) // canonical($data->{createdAt}) // instant(0);
        $of{$_} = {value => $data->{$_}, at => $at} for keys %$data;
    }
    if (defined(my $at = canonical($change->{deletedAt}))) {
        $of{deletedAt} = {value => $at, at => $at} if $change->{op} eq "delete";
    }
    my $fields = $change->{fields} // {};
    for my $name (keys %$fields) {
        my $r = $fields->{$name};
        $of{$name} = {value => $r->{value}, at => canonical($r->{at} // $r->{updatedAt})};
        $of{$name}{clientId} = $r->{clientId} if defined $r->{clientId};
        $of{$name}{sent} = canonical($r->{sent}) if defined $r->{sent};
    }
    $_->{clientId} //= $change->{clientId} for values %of;
    return \%of;
}

# Which of two registers stands: true for the incoming one (P50 to P52).
sub replaces {
    my ($held, $in) = @_;
    return 1 unless $held;
    if ($held->{clientId} eq $in->{clientId} && $held->{at} ne $in->{at}) {
        return 1 if ($in->{sent} // "") eq $held->{at};
        return 0 if ($held->{sent} // "") eq $in->{at};
    }
    return order($in, $held) >= 0;
}

sub merge {
    my ($held, $incoming) = @_;
    replaces($held->{$_}, $incoming->{$_}) and $held->{$_} = $incoming->{$_} for keys %$incoming;
    return $held;
}

sub deleted { my ($registers) = @_; return defined $registers->{deletedAt} && defined $registers->{deletedAt}{value} }

# What the application sees: the confirmed registers with unsent changes of this client over them (P104).
sub overlay {
    my ($confirmed, $client, @unsent) = @_;
    my $seen = {%$confirmed};
    merge($seen, registers({%$_, clientId => $client})) for @unsent;
    return $seen;
}

# The clock (P53 to P56), in microseconds.
sub least { my ($a, $b) = @_; return $a < $b ? $a : $b }
sub most { my ($a, $b) = @_; return $a > $b ? $a : $b }
sub tick {
    my ($last, $wall) = @_;
    my $now = $wall - $wall % 1000;
    return least($now <= $last && $last < $now + SECOND ? $last + 1 : $now, LAST);
}

sub stamp {
    my ($last, $wall, $replaces, $sent) = @_;
    my $at = tick($last, $wall);
    $at = most($at, $_ + 1) for @$replaces;
    my %taken = map { $_ => 1 } @{$sent // []};
    $at++ while $taken{$at};
    return $at;
}

# A record's digest and bucket, and those of a set of {table, id, registers} (P180 to P182).
sub digest {
    my ($table, $id, $registers) = @_;
    my @texts = map { ($_, $registers->{$_}{at}, $registers->{$_}{clientId}) } sort keys %$registers;
    return substr sha256(encode_utf8(join "\n", $table, $id, @texts)), 0, 8;
}

sub bucket { my ($table, $id) = @_; return ord sha256(encode_utf8("$table\n$id")) }

sub digests {
    my ($all, $count, %in) = ("\0" x 8, 0);
    for my $record (grep { !deleted($_->{registers}) } @_) {
        my $one = digest(@$record{qw(table id registers)});
        my $bucket = $in{bucket(@$record{qw(table id)})} //= [0, "\0" x 8];
        $count++, $bucket->[0]++;
        $_ ^.= $one for $all, $bucket->[1];
    }
    my @buckets = map { [$_, $in{$_}[0], unpack "H*", $in{$_}[1]] } sort { $a <=> $b } keys %in;
    return {records => $count, digest => unpack("H*", $all), buckets => \@buckets};
}

1;
