package Syncd::Replica;

# A store in one JSON file, written whole and renamed, so that what belongs together changes together (P100).
use v5.30;
use warnings;
use Fcntl qw(:flock);
use HTTP::Tiny;
use IO::Handle;
use MIME::Base64 qw(decode_base64url);
use Time::HiRes qw(sleep);
use Syncd;

my $TRIES = 6;
my $AT_ONCE = 500;    # changes of a push; a server takes 1,000 where its operator says nothing else (P23)

sub wall { return int(Time::HiRes::time() * 1_000_000) }

# Opens a store: file, url, app, and token, a function that gives one (again after a 401).
sub new {
    my ($class, %of) = @_;
    my $self = bless {%of, http => HTTP::Tiny->new(timeout => 60)}, $class;
    open $self->{lock}, ">", "$of{file}.lock" or die "$of{file}.lock: $!\n";
    flock $self->{lock}, LOCK_EX or die "$of{file}.lock: $!\n";
    my $user = Syncd::decode(decode_base64url((split /\./, $of{token}->())[1]))->{sub};
    if (open my $file, "<:raw", $of{file}) { local $/; $self->{store} = Syncd::decode(<$file>) }
    $self->{store} //= {
        app => $of{app}, user => $user, clientId => join("", map { sprintf "%02x", rand 256 } 1 .. 16),
        last => 0, made => 0, cursor => "", records => {}, outbox => [],
    };
    $self->{store}{$_} eq {%of, user => $user}->{$_} or die "the store is of another $_\n" for qw(app user);    # P101
    return $self;
}

sub save {
    my ($self) = @_;
    open my $file, ">:raw", "$self->{file}.new" or die "$self->{file}.new: $!\n";
    print {$file} Syncd::encode($self->{store}) and $file->flush and $file->sync and close $file or die "$self->{file}: $!\n";
    rename "$self->{file}.new", $self->{file} or die "$self->{file}: $!\n";
}

# A record's key. The personal space is "" here: no other one of that name can be seen (P166).
sub key {
    my ($change) = @_;
    my $space = $change->{spaceId} // "";
    return join "\n", $space =~ /\A_personal:/ ? "" : $space, @$change{qw(table id)};    # ids have no line feed (P19)
}

sub registers_of { my ($self, $key) = @_; return $self->{store}{records}{$key} // {} }

# The registers that the application sees of a record (P104).
sub seen {
    my ($self, $key) = @_;
    my @unsent = grep { $_->{key} eq $key && $_->{state} ne "aside" } @{$self->{store}{outbox}};
    return Syncd::overlay($self->registers_of($key), $self->{store}{clientId}, map { Syncd::decode($_->{text}) } @unsent);
}

# Every live record, {space, table, id, fields}.
sub all {
    my ($self) = @_;
    my %keys = map { $_ => 1 } keys %{$self->{store}{records}}, map { $_->{key} } @{$self->{store}{outbox}};
    my @live;
    for my $key (sort keys %keys) {
        my $seen = $self->seen($key);
        next if !%$seen || Syncd::deleted($seen);
        my ($space, $table, $id) = split /\n/, $key;
        my %fields = map { $_ => $seen->{$_}{value} } grep { $_ ne "deletedAt" } keys %$seen;
        push @live, {space => $space, table => $table, id => $id, fields => \%fields};
    }
    return \@live;
}

# What was refused or set aside: its code, or "aside", and the change as JSON text.
sub refused {
    my ($self) = @_;
    my @those = grep { $_->{state} =~ /\A(?:rejected|aside)\z/ } @{$self->{store}{outbox}};
    return map { [$_->{code} // "aside", $_->{text}] } @those;
}

# Writes to the outbox (P103): op, {table, id, spaceId?} and the fields, {name: value}.
sub write {
    my ($self, $op, $record, $fields) = @_;
    my $store = $self->{store};
    my %values = %{$fields // {}};
    $values{deletedAt} = undef if $op eq "insert";
    my $seen = $self->seen(key($record));
    my @over = grep { $_ } map { $seen->{$_} } keys %values, $op eq "delete" ? "deletedAt" : ();
    my @sent = map { Syncd::micros($_->{sent}) } grep { defined $_->{sent} } @over;
    $store->{last} = Syncd::stamp($store->{last}, wall(), [map { Syncd::micros($_->{at}) } @over], \@sent);
    my $at = Syncd::instant($store->{last});
    my $change = {%$record, op => $op, changeId => "$store->{clientId}-" . ++$store->{made}};
    $change->{fields} = {map { $_ => {value => $values{$_}, at => $at} } keys %values} if %values;
    $change->{deletedAt} = $at if $op eq "delete";
    my %entry = (key => key($change), id => $change->{changeId}, state => "waiting", text => Syncd::encode($change));
    push @{$store->{outbox}}, \%entry;
    $self->save;
}

# A request, tried again where that may help (P118, P119): the status and the answer.
sub request {
    my ($self, $method, $path, $body) = @_;
    my $renewed;
    for (my $try = 0; ; $try++) {
        my %headers = ("X-Sync-Protocol" => 1, Authorization => "Bearer " . $self->{token}->());
        @headers{"X-Client-Id", "Content-Type"} = ($self->{store}{clientId}, "application/json") if defined $body;
        my %more = (headers => \%headers, defined $body ? (content => $body) : ());
        my $got = $self->{http}->request($method, $self->{url} . $path, \%more);
        my $answer = eval { Syncd::decode($got->{content}) };
        next if $got->{status} == 401 && !$renewed++;
        return ($got->{status}, $answer) if ref $answer eq "HASH" && $got->{status} !~ /\A(?:408|425|429|5..)\z/;
        die "no answer: $got->{status} $got->{reason}\n" if $try + 1 >= $TRIES;
        my $pause = rand Syncd::least(20, 0.25 * 2**$try);
        my ($asked) = ($got->{headers}{"retry-after"} // "") =~ /\A([0-9]+)\z/;
        sleep Syncd::most($pause, Syncd::least(300, $asked // 0));
    }
}

sub escaped { my ($text) = @_; utf8::encode($text); return $text =~ s/([^A-Za-z0-9_~.-])/sprintf "%%%02X", ord $1/ger }

# Pushes what waits, then pulls to the end (P107).
sub sync {
    my ($self) = @_;
    my ($most, $pulled, $again) = ($AT_ONCE, 0, 0);
    while (1) {
        my @push = grep { $_->{state} eq "waiting" } @{$self->{store}{outbox}};
        @push = () if $self->{store}{again};
        splice @push, $most if @push > $most;
        last if !@push && $pulled;
        my ($status, $answer) = @push ? $self->push_these(@push) : $self->pull;
        my $code = $status == 200 ? "" : $answer->{code} // "";
        if ($status == 200) { $pulled = !$self->apply($answer, @push) }
        elsif ($code =~ /\A(?:cursor_lost|bad_cursor)\z/ && !$again++) {    # P117
            @{$self->{store}}{qw(cursor again)} = ("", {});
            $self->save;
        }
        elsif (!@push || !($status =~ /\A(?:413|422)\z/ || $status == 400 && $answer->{errors})) {
            die "$status $code: ", $answer->{detail} // "", "\n";
        }
        elsif (!$self->refuse($answer, @push)) { $most = int(@push / 2) }    # P121
    }
}

sub push_these {
    my ($self, @push) = @_;
    my $since = Syncd::encode($self->{store}{cursor});
    my $body = sprintf '{"since":%s,"changes":[%s]}', $since, join ",", map { $_->{text} } @push;
    return $self->request(POST => "/sync/" . escaped($self->{store}{app}), $body);
}

sub pull {
    my ($self) = @_;
    return $self->request(GET => "/sync/" . escaped($self->{store}{app}) . "/pull?since=" . escaped($self->{store}{cursor}));
}

# Takes the changes that a refusal names off the queue; false where it names none of several (P121).
sub refuse {
    my ($self, $answer, @push) = @_;
    my %named = map { $_->{pointer} =~ m{\A/changes/(\d+)} ? ($1 => $_->{code} // $answer->{code}) : () } @{$answer->{errors} // []};
    %named = (0 => $answer->{code}) if !%named && @push == 1;
    @{$push[$_]}{qw(state code)} = ("rejected", $named{$_}) for keys %named;
    $self->save;
    return scalar %named;
}

# Takes an answer in, in the order of P109; returns whether there is more.
sub apply {
    my ($self, $answer, @push) = @_;
    my $store = $self->{store};
    my @given;
    $self->leave($_) for @{$answer->{spaces}{left}};
    for my $change (@{$answer->{serverChanges}}) {
        my $in = Syncd::registers($change);
        $self->confirm(key($change), $in);
        next unless $change->{clientId} eq $store->{clientId} && defined $change->{changeId};
        $_->{id} eq $change->{changeId} and $_->{state} = "gone" for @{$store->{outbox}};    # P112
    }
    for my $n (0 .. $#push) {
        my ($entry, $result) = ($push[$n], $answer->{results}[$n]);
        next if $entry->{state} eq "gone";
        my $stays = {rejected => "rejected", duplicate => "kept"}->{$result->{status}};    # P111, P113
        $entry->{code} = $result->{code} if $result->{code};
        if ($stays) { $entry->{state} = $stays if $entry->{state} ne "aside"; next }
        my $change = Syncd::decode($entry->{text});
        my $own = Syncd::registers({%$change, clientId => $store->{clientId}});
        while (my ($name, $at) = each %{$result->{at} // {}}) {    # P110
            push @given, $at if $at lt $own->{$name}{at};
            @{$own->{$name}}{qw(sent at)} = ($own->{$name}{at}, $at);
            $own->{$name}{value} = $at if $name eq "deletedAt" && $change->{op} eq "delete";
        }
        $self->confirm($entry->{key}, $own) if $entry->{state} ne "aside";
        $entry->{state} = "gone";
    }
    $store->{cursor} = $answer->{syncedUntil};
    $self->finish unless $answer->{hasMore};
    @{$store->{outbox}} = grep { $_->{state} ne "gone" } @{$store->{outbox}};
    $self->date(sort @given);
    $self->save;
    return $answer->{hasMore};
}

sub confirm {
    my ($self, $key, $in) = @_;
    my $store = $self->{store};
    delete $store->{records}{$key} if $store->{again} && !$store->{again}{$key}++;
    Syncd::merge($store->{records}{$key} //= {}, $in);
}

# At the end of the log: kept changes leave; after a new beginning so do records of which nothing came (P111, P117).
sub finish {
    my ($self) = @_;
    my $store = $self->{store};
    $_->{state} eq "kept" and $_->{state} = "gone" for @{$store->{outbox}};
    my $came = delete $store->{again} or return;
    $came->{$_} or delete $store->{records}{$_} for keys %{$store->{records}};
}

# A space that was left: its records go, its unsent changes are set aside (P115).
sub leave {
    my ($self, $space) = @_;
    my $store = $self->{store};
    /\A\Q$space\E\n/ and delete $store->{records}{$_} for keys %{$store->{records}};
    $_->{key} =~ /\A\Q$space\E\n/ and $_->{state} = "aside" for @{$store->{outbox}};
}

# Where stamps were lowered, those of refused changes that lie beyond are lowered to before them (P114).
sub date {
    my ($self, @given) = @_;
    return if !@given;
    my $before = Syncd::instant(Syncd::micros($given[0]) - 1);
    for my $entry (grep { $_->{state} =~ /\A(?:rejected|aside)\z/ } @{$self->{store}{outbox}}) {
        my $change = Syncd::decode($entry->{text});
        $_->{at} gt $given[-1] and $_->{at} = $before for values %{$change->{fields}};
        $change->{deletedAt} = $before if ($change->{deletedAt} // "") gt $given[-1];
        $entry->{text} = Syncd::encode($change);
    }
}

# Whether the confirmed records are the server's, space by space; those that differ (P183).
sub differing {
    my ($self) = @_;
    my ($app, $since) = map { escaped($_) } @{$self->{store}}{qw(app cursor)};
    my ($status, $answer) = $self->request(GET => "/sync/$app/digest?since=$since");
    die "$status $answer->{code}\n" if $status != 200;
    my %mine;
    for my $key (keys %{$self->{store}{records}}) {
        my ($space, $table, $id) = split /\n/, $key;
        my %record = (table => $table, id => $id, registers => $self->registers_of($key));
        push @{$mine{$space eq "" ? "_personal:$self->{store}{user}" : $space}}, \%record;
    }
    return grep { Syncd::digests(@{$mine{$_->{spaceId}} // []})->{digest} ne $_->{digest} } @{$answer->{spaces}};
}

1;
