"""What the settings are: a typed field each, with its default and the reason for it."""

# Without `from __future__ import annotations`: each would be a text, compiled twice at the start of each process.
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Memberships = Literal["table", "token", "service"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

# Everybody on the machine can read the options of a running program.
NOT_AN_OPTION = {"jwt_secret", "memberships_header", "context_key"}

# Which settings belong together, for the help and the documentation. A name stands for all down to the next topic's.
TOPICS = {
    "host": "Address and processes",
    "database_url": "Database",
    "jwt_secret": "Tokens",
    "memberships": "Memberships",
    "invitations": "What users may do to each other",
    "max_body": "What a request may hold",
    "rules": "Rules of the application",
    "max_requests": "What a worker has in hand",
    "max_head": "Before a request is read",
    "quota_requests": "Quotas of a second",
    "max_names": "Quotas of what is kept",
    "legacy_spaces": "Clients of the first generation",
    "pool_size": "Connections and workers' news of each other",
    "compact_every": "Compaction",
    "allowed_origins": "Web pages",
    "log_level": "Log",
    "shutdown_timeout": "Patience",
}


def about(reason: str, kind: str = "", **limits: Any) -> Meta:
    """What a setting is and why; `kind` is how its value is written (seconds, bytes, list, pem, secret)."""
    return Meta(description=reason, extra={"kind": kind}, **limits)


# A table, to be read as one: the formatter would make seven lines of most of its rows.
# fmt: off
class DeclaredSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decides. Durations are seconds, sizes bytes, unless the name says otherwise."""

    # Address and processes
    host: Annotated[str, about(
        "The address to listen on; this machine alone until you decide otherwise.")] = "127.0.0.1"
    port: Annotated[int, about("The port to listen on; 0 takes a free one and prints it.", ge=0, le=65535)] = 3050
    data_dir: Annotated[Path, about(
        "Where the database that syncd starts itself keeps its files, and the secret "
        "when none is given.")] = Path("syncd-data")
    user: Annotated[str | None, about(
        "Where root starts `serve`: the user of the system that the workers become. With a database of syncd's own "
        "that is its data directory's user, whatever is set.")] = None
    trusted_proxies: Annotated[tuple[str, ...], about(
        "Networks and addresses of proxies, `10.0.0.0/8,192.0.2.1`. What comes from them counts for the address that "
        "they name in `X-Forwarded-For` or `Forwarded`: the last one that is none of theirs.", "list")] = ()
    workers: Annotated[int, about(
        "Server processes behind the one address; about one for each processor.", ge=1, le=256)] = 1
    # Database
    database_url: Annotated[str | None, about(
        "A PostgreSQL 15 to 18, as the runtime role, direct or pooled; without it syncd starts its own.",
        "secret")] = None
    read_urls: Annotated[tuple[str, ...], about(
        "Standbys of that database, a URL each, as the same role: first syncs, history, exports and digests are read "
        "there while they keep up, else on the primary.", "secrets")] = ()
    migrate_url: Annotated[str | None, about(
        "The same database as its owner, to migrate at start; without it run `syncd migrate` yourself.",
        "secret")] = None
    context_key: Annotated[Annotated[str, Meta(min_length=32)] | None, about(
        "What a server signs who acts with, for the database: 32 characters or more, the same for all servers. A "
        "database of yours asks for it from `syncd migrate --contexts signed` on, syncd's own where this is set.",
        "secret")] = None
    # Tokens
    jwt_secret: Annotated[str | None, about(
        "The HS256 secret of the tokens, at least 32 bytes; without any key syncd makes one.", "secret")] = None
    jwt_public_key: Annotated[str | None, about(
        "A public key (EdDSA, ES256, RS256) as PEM text or the path of a PEM file.", "pem")] = None
    jwks_url: Annotated[str | None, about(
        "Where the identity provider publishes its keys, so that they can be rotated.")] = None
    jwt_issuer: Annotated[str | None, about("The `iss` that a token must have, when set.")] = None
    jwt_audience: Annotated[str | None, about(
        "The `aud` that a token must have, when set: tokens for another service are refused.")] = None
    oidc_issuer: Annotated[tuple[str, ...], about(
        "Identity providers by their issuers, which say where their keys are: `https://login.example.com`. With "
        "several, all but one have a name that the ids of their users begin with: "
        "`https://a.example,staff=https://b.example`. Needs `SYNCD_JWT_AUDIENCE`.", "list")] = ()
    oidc_user_claim: Annotated[str, about(
        "The claim that names the user in tokens of these issuers; `email` counts where it is verified.")] = "sub"
    # Memberships
    memberships: Annotated[Memberships, about(
        "Who says who is in a space: syncd's own table, the token's claim, or a service of yours.")] = "table"
    memberships_url: Annotated[str | None, about(
        "With `service`: the address that answers with a user's spaces, `[{\"id\",\"role\"}]`; the user's id goes "
        "where it says `{user}`, else into `?userId=`.")] = None
    memberships_header: Annotated[Annotated[str, Meta(pattern=r"^[\w-]+:[ -~]+$")] | None, about(
        "With `service`: a header that it wants to see, `x-service-key: …` for instance.", "secret")] = None
    memberships_roles: Annotated[tuple[str, ...], about(
        "With `service`: its roles and ours, `admin:owner,member:writer`; with it, other roles are passed over.",
        "list")] = ()
    # What users may do to each other
    invitations: Annotated[Literal["auto", "ask"], about(
        "What it is when an owner adds a member: `auto`, a membership at once; `ask`, an invitation, which counts "
        "when its user accepts it.")] = "auto"
    max_spaces_owned: Annotated[int, about(
        "Spaces that a user owns, made or accepted; one more is 409. The personal one is not counted.", ge=1)] = 1000
    max_spaces_joined: Annotated[int, about(
        "Spaces that a user is in by own doing, those owned included; one more is 409.", ge=1)] = 10_000
    max_spaces_added: Annotated[int, about(
        "Spaces that a user is in because others say so, and invitations that wait for an answer: each costs its "
        "user time with every sync. Whoever adds one more is told 409.", ge=1)] = 1000
    max_spaces_listed: Annotated[int, about(
        "With `token` or `service`: spaces in a user's list; one with more is 403.", ge=1)] = 10_000
    spaces_per_hour: Annotated[int, about(
        "Spaces that a user makes in an hour: so many at once, then one each hour's share; 429. As many get another "
        "name.", ge=1)] = 100
    members_per_hour: Annotated[int, about(
        "The same for members that a user adds or invites, or who join by the user's links, in all spaces together. As "
        "many links are made.", ge=1)] = 1000
    # What a request may hold
    max_body: Annotated[int, about(
        "The largest request, also after decompression; a batch of 1,000 rows is 0.3 MB.",
        "bytes", ge=1024)] = 10 * 1024 * 1024
    max_import: Annotated[int, about(
        "The largest export that is taken back over HTTP, also when unpacked; it goes through a temporary file.",
        "bytes", ge=1024)] = 2 * 1024 * 1024 * 1024
    max_changes: Annotated[int, about(
        "Changes in one push: it is one transaction, and holds its feeds that long.", ge=1)] = 1000
    max_change: Annotated[int, about(
        "The largest single change; what is larger belongs in a file store.", "bytes", ge=64)] = 1024 * 1024
    max_touched: Annotated[int, about(
        "The records that one push changes, together, with what it writes to them: others get them in one page.",
        "bytes", ge=64 * 1024, le=64 * 1024 * 1024)] = 32 * 1024 * 1024
    max_depth: Annotated[int, about(
        "How deep JSON may nest; a parser's stack is not a client's to spend.", ge=2, le=500)] = 64
    max_clock_skew: Annotated[float, about(
        "How far a device's clock may be ahead before its stamps are lowered to the server's time.",
        "seconds", ge=0)] = 60.0
    max_schema_version: Annotated[Annotated[int, Meta(ge=0)] | None, about(
        "The newest `schemaVersion` that is accepted; newer changes are refused, not garbled.")] = None
    # Rules of the application
    rules: Annotated[str | None, about(
        "A Python module with rules about what may be written, `shop.rules`; see the guide on rules.")] = None
    # What a worker has in hand
    max_requests: Annotated[int, about(
        "Requests that a worker has in work at a time, at most. While they wait long for their turn it has fewer, "
        "16 at least; beyond it is 503 at once, with a `Retry-After`.", ge=16)] = 512
    slowest_body: Annotated[int, about(
        "Bytes a second that a body has to come at, once its first 10s are over; clients send less after a 408.",
        "bytes", ge=1)] = 1000
    max_bodies_per_user: Annotated[int, about(
        "How many of the largest bodies, and of the largest pages, a worker holds of one user; beyond it is 429.",
        ge=3)] = 4
    max_bodies_per_address: Annotated[int, about(
        "The same for one address, of IPv6 for a network of 64 bits; 0: no bound.", ge=0)] = 16
    max_bodies: Annotated[int, about(
        "The same for all, a quarter of it for pages; beyond it is 503. A worker needs several times that memory.",
        ge=3)] = 32
    # Before a request is read
    max_head: Annotated[int, about(
        "The largest head of a request, its address and headers together; they are kept before a token is seen.",
        "bytes", ge=1024)] = 64 * 1024
    max_headers: Annotated[int, about(
        "How many headers a request may have; trailers behind its body count too.", ge=16)] = 100
    max_url: Annotated[int, about(
        "The longest address of a request, less the cursor in it, which syncd made.", "bytes", ge=512)] = 8 * 1024
    head_timeout: Annotated[float, about(
        "How long the head of a request may take, from its first byte on; the first one from `accept` on.",
        "seconds", ge=0.5)] = 10.0
    idle_timeout: Annotated[float, about(
        "How long a connection may be idle between two requests, or take nothing of an answer; longer than the 60s "
        "of common load balancers, so that it is they who close it.", "seconds", ge=1)] = 75.0
    # Quotas of a second
    quota_requests: Annotated[float, about(
        "Requests a second of one user to one worker on average, pushes over sockets among them; 10s worth at "
        "once. For every quota 0 is no bound.", ge=0)] = 200.0
    quota_bytes_in: Annotated[int, about(
        "Bytes a second that one user sends to one worker on average; a minute's worth at once.",
        "bytes", ge=0)] = 4 * 1024 * 1024
    quota_bytes_out: Annotated[int, about(
        "Bytes a second that one worker sends to one user on average; a minute's worth at once.",
        "bytes", ge=0)] = 16 * 1024 * 1024
    # Quotas of what is kept
    max_names: Annotated[int, about(
        "Names that one user may make: of devices, tables, apps and new members. What needs one more is refused.",
        ge=16)] = 10_000
    quota_space_records: Annotated[int, about(
        "Records that are not deleted, of one space; one that has more takes nothing but deletions.",
        ge=0)] = 1_000_000
    quota_space_bytes: Annotated[int, about(
        "Bytes of the changes that the log keeps of one space; the state takes about as much.",
        "bytes", ge=0)] = 4 * 1024 * 1024 * 1024
    quota_user_records: Annotated[int, about(
        "Records of all spaces together that one user has made and is still a member of.", ge=0)] = 2_000_000
    quota_user_bytes: Annotated[int, about(
        "Bytes of all spaces together that one user has made and is still a member of.",
        "bytes", ge=0)] = 8 * 1024 * 1024 * 1024
    quota_devices: Annotated[int, about(
        "Devices of one user that say which copy of their store they are, as both clients' do.", ge=0)] = 1000
    quota_every: Annotated[float, about(
        "How often a worker counts what was written; meanwhile it may exceed a total's quota.",
        "seconds", ge=0.05)] = 15.0
    # Clients of the first generation
    legacy_spaces: Annotated[Literal["hold", "own"], about(
        "What becomes of a space that nobody has heard of when a first-generation client writes in it: `hold` "
        "keeps what it wrote until there is one, `own` makes it, its author the owner.")] = "hold"
    max_held: Annotated[int, about(
        "How many changes of one user are held until they may be written (first generation).", ge=1)] = 10_000
    max_held_bytes: Annotated[int, about(
        "How much of one user is held; a push that would hold more is told to come later, whole.",
        "bytes", ge=1024)] = 16 * 1024 * 1024
    # Connections and workers' news of each other
    pool_size: Annotated[int, about(
        "Database connections of each worker; more than twice the database's processors gain nothing.", ge=1)] = 8
    bus: Annotated[str, about(
        "What carries hints between workers: `postgres`, or `nats://…` or `tls://…` to spare the database.",
        "secret", pattern=r"^(postgres|(nats|tls)://\S+)$")] = "postgres"
    listen_url: Annotated[str | None, about(
        "The same database without the pooler, for `LISTEN`, when `SYNCD_DATABASE_URL` leads through one. With a NATS "
        "bus: hear there at once, and not within two seconds, what an application's backend writes.",
        "secret")] = None
    max_connections_per_user: Annotated[int, about(
        "Live connections of one user to one worker; 0 for no bound. A flood must not reach others.", ge=0)] = 100
    max_connections_per_address: Annotated[int, about(
        "Connections of one address to one worker, of any kind and from `accept` on; of a trusted proxy's clients "
        "sockets and streams. 0: no bound.", ge=0)] = 4000
    max_connections: Annotated[int, about(
        "Connections of one worker, of any kind; the next is told 503. 0: as many as it has file descriptors for, "
        "less what it needs itself.", ge=0)] = 0
    max_frames_per_second: Annotated[float, about(
        "Frames a second that a user's sockets may send on average, four seconds' worth at once.", ge=1)] = 200.0
    ping_interval: Annotated[float, about(
        "A socket that is silent for so long is asked if it is there; it is ended after as long again, or, while "
        "something waits for it, when it took nothing for thrice as long.", "seconds", ge=0.5)] = 20.0
    # Compaction
    compact_every: Annotated[float, about(
        "How often what is too old is folded out of the log, by one server of all; 0 leaves it to `syncd compact`.",
        "seconds", ge=0)] = 86400.0
    compact_history: Annotated[float, about(
        "How long what was overwritten stays in the log, for history, restores and devices that were away.",
        "seconds", ge=0)] = 365 * 86400.0
    compact_tombstones: Annotated[float, about(
        "How long it is remembered that a record was deleted; a device that was away for longer starts again, and "
        "what it wrote to unknown records before is refused. 0: for ever.", "seconds", ge=0)] = 0.0
    compact_audit: Annotated[float, about(
        "How long the audit says what was done; compaction removes what is older. 0: for ever.",
        "seconds", ge=0)] = 365 * 86400.0
    compact_devices: Annotated[float, about(
        "How long a device that does not push is known, and counts among its user's; one that comes back is a new "
        "one, and has all that it had. 0: for ever.", "seconds", ge=0)] = 365 * 86400.0
    erase_me: Annotated[bool, about(
        "Whether users may ask to be erased, by `DELETE /me`; `syncd erase asked` does it.")] = False
    # Web pages
    allowed_origins: Annotated[tuple[str, ...], about(
        "The web origins whose pages may call this server; `*` allows all. Programs send no origin.", "list")] = ()
    demo: Annotated[bool, about(
        "Serve the demonstration board at /demo, with tokens for whoever gives a name: for trying it out.")] = False
    # Log
    log_level: Annotated[LogLevel, about("The least that is logged.")] = "info"
    log_format: Annotated[LogFormat, about("`text` for people, `json` for a log collector.")] = "text"
    # Patience
    shutdown_timeout: Annotated[float, about(
        "How long a stop waits for what is in flight; below the 30 s of most orchestrators.", "seconds", ge=0)] = 20.0
    lock_timeout_ms: Annotated[int, about(
        "How long a statement waits for a lock before the client is told to retry.", ge=1)] = 5000
    statement_timeout_ms: Annotated[int, about(
        "How long a statement may take: a bound to what one request costs everyone.", ge=1)] = 30000
# fmt: on
