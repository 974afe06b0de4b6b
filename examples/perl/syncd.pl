#!/usr/bin/env perl
# perl syncd.pl FILE URL APP COMMAND…, with a token in SYNCD_TOKEN.
# insert|update TABLE ID FIELDS [SPACE], delete TABLE ID [SPACE], sync, show, refused, verify
use v5.30;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Encode qw(decode_utf8);
use Syncd::Replica;

my ($file, $url, $app, $command, @rest) = @ARGV;
die "usage: perl syncd.pl FILE URL APP insert|update|delete|sync|show|refused|verify …\n" unless defined $command;
my $token = sub { $ENV{SYNCD_TOKEN} // die "no SYNCD_TOKEN\n" };
my $replica = Syncd::Replica->new(file => $file, url => $url, app => decode_utf8($app), token => $token);
if ($command =~ /\A(?:insert|update|delete)\z/) {
    my ($table, $id) = map { decode_utf8($_) } splice @rest, 0, 2;
    my $fields = $command eq "delete" ? undef : Syncd::decode(shift @rest);
    $replica->write($command, {table => $table, id => $id, @rest ? (spaceId => decode_utf8($rest[0])) : ()}, $fields);
}
elsif ($command eq "sync") { $replica->sync }
elsif ($command eq "show") { say Syncd::encode($_) for @{$replica->all} }
elsif ($command eq "refused") { say join " ", @$_ for $replica->refused }
elsif ($command eq "verify") { my @differ = $replica->differing; say "$_->{spaceId} differs" for @differ; exit(@differ ? 1 : 0) }
else { die "no such command: $command\n" }
