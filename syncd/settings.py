"""Every setting of syncd in one typed table, with its default and the reason for it.

A setting is a field of `Settings`; its environment variable is `SYNCD_` and the field's name in capitals, and
`syncd serve` has an option of the same name. Only `app.py` and `cli/` read this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

PREFIX = "SYNCD_"
# Everybody on the machine can read the options of a running program.
NOT_AN_OPTION = {"jwt_secret", "memberships_header", "context_key"}

Memberships = Literal["table", "token", "service"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]


# Which settings belong together, for the help and the documentation. A name stands for all down to the next topic's.
TOPICS = {
    "host": "Address and processes",
    "database_url": "Database",
    "jwt_secret": "Tokens",
    "memberships": "Memberships",
    "invitations": "What users may do to each other",
    "max_body": "What a request may hold",
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


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the text names the variable and what is allowed."""


def _about(reason: str, kind: str = "", **limits: Any) -> Meta:
    return Meta(description=reason, extra={"kind": kind}, **limits)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decides. Durations are seconds, sizes bytes, unless the name says otherwise."""

    host: Annotated[str, _about("The address to listen on; this machine alone until you decide otherwise.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, _about("The port to listen on; 0 takes a free one and prints it.", ge=0, le=65535)] = 3050
    data_dir: Annotated[
        Path,
        _about("Where the database that syncd starts itself keeps its files, and the secret when none is given."),
    ] = Path("syncd-data")
    user: Annotated[
        str | None,
        _about(
            "Where root starts `serve`: the user of the system that the workers become. With a database of syncd's own "
            "that is its data directory's user, whatever is set."
        ),
    ] = None
    workers: Annotated[
        int, _about("Server processes behind the one address; about one for each processor.", ge=1, le=256)
    ] = 1
    database_url: Annotated[
        str | None,
        _about(
            "A PostgreSQL 15 to 18, as the runtime role, direct or pooled; without it syncd starts its own.",
            "secret",
        ),
    ] = None
    migrate_url: Annotated[
        str | None,
        _about(
            "The same database as its owner, to migrate at start; without it run `syncd migrate` yourself.",
            "secret",
        ),
    ] = None
    context_key: Annotated[
        Annotated[str, Meta(min_length=32)] | None,
        _about(
            "What a server signs who acts with, for the database: 32 characters or more, the same for all servers. A "
            "database of yours asks for it from `syncd migrate --contexts signed` on, syncd's own where this is set.",
            "secret",
        ),
    ] = None
    jwt_secret: Annotated[
        str | None,
        _about("The HS256 secret of the tokens, at least 32 bytes; without any key syncd makes one.", "secret"),
    ] = None
    jwt_public_key: Annotated[
        str | None,
        _about("A public key (EdDSA, ES256, RS256) as PEM text or the path of a PEM file.", "pem"),
    ] = None
    jwks_url: Annotated[
        str | None, _about("Where the identity provider publishes its keys, so that they can be rotated.")
    ] = None
    jwt_issuer: Annotated[str | None, _about("The `iss` that a token must have, when set.")] = None
    jwt_audience: Annotated[
        str | None,
        _about("The `aud` that a token must have, when set: tokens for another service are refused."),
    ] = None
    memberships: Annotated[
        Memberships,
        _about("Who says who is in a space: syncd's own table, the token's claim, or a service of yours."),
    ] = "table"
    memberships_url: Annotated[
        str | None,
        _about(
            'With `service`: the address that answers with a user\'s spaces, `[{"id","role"}]`; the user\'s id goes '
            "where it says `{user}`, else into `?userId=`."
        ),
    ] = None
    memberships_header: Annotated[
        Annotated[str, Meta(pattern=r"^[\w-]+:[ -~]+$")] | None,
        _about("With `service`: a header that it wants to see, `x-service-key: …` for instance.", "secret"),
    ] = None
    memberships_roles: Annotated[
        tuple[str, ...],
        _about(
            "With `service`: its roles and ours, `admin:owner,member:writer`; with it, other roles are passed over.",
            "list",
        ),
    ] = ()
    invitations: Annotated[
        Literal["auto", "ask"],
        _about(
            "What it is when an owner adds a member: `auto`, a membership at once; `ask`, an invitation, which counts "
            "when its user accepts it."
        ),
    ] = "auto"
    max_spaces_owned: Annotated[
        int,
        _about("Spaces that a user owns, made or accepted; one more is 409. The personal one is not counted.", ge=1),
    ] = 1000
    max_spaces_joined: Annotated[
        int, _about("Spaces that a user is in by own doing, those owned included; one more is 409.", ge=1)
    ] = 10_000
    max_spaces_added: Annotated[
        int,
        _about(
            "Spaces that a user is in because others say so, and invitations that wait for an answer: each costs its "
            "user time with every sync. Whoever adds one more is told 409.",
            ge=1,
        ),
    ] = 1000
    max_spaces_listed: Annotated[
        int, _about("With `token` or `service`: spaces in a user's list; one with more is 403.", ge=1)
    ] = 10_000
    spaces_per_hour: Annotated[
        int, _about("Spaces that a user makes in an hour: so many at once, then one each hour's share; 429.", ge=1)
    ] = 100
    members_per_hour: Annotated[
        int, _about("The same for members that a user adds or invites, in all spaces together.", ge=1)
    ] = 1000
    max_body: Annotated[
        int,
        _about(
            "The largest request, also after decompression; a batch of 1,000 rows is 0.3 MB.",
            "bytes",
            ge=1024,
        ),
    ] = 10 * 1024 * 1024
    max_import: Annotated[
        int,
        _about(
            "The largest export that is taken back over HTTP, also when unpacked; it goes through a temporary file.",
            "bytes",
            ge=1024,
        ),
    ] = 2 * 1024 * 1024 * 1024
    max_changes: Annotated[
        int, _about("Changes in one push: it is one transaction, and holds its feeds that long.", ge=1)
    ] = 1000
    max_change: Annotated[
        int, _about("The largest single change; what is larger belongs in a file store.", "bytes", ge=64)
    ] = 1024 * 1024
    max_touched: Annotated[
        int,
        _about(
            "The records that one push changes, together, with what it writes to them: others get them in one page.",
            "bytes",
            ge=64 * 1024,
            le=64 * 1024 * 1024,
        ),
    ] = 32 * 1024 * 1024
    max_depth: Annotated[
        int, _about("How deep JSON may nest; a parser's stack is not a client's to spend.", ge=2, le=500)
    ] = 64
    max_clock_skew: Annotated[
        float,
        _about(
            "How far a device's clock may be ahead before its stamps are lowered to the server's time.",
            "seconds",
            ge=0,
        ),
    ] = 60.0
    max_schema_version: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        _about("The newest `schemaVersion` that is accepted; newer changes are refused, not garbled."),
    ] = None
    max_requests: Annotated[
        int,
        _about(
            "Requests that a worker has in work at a time, at most. While they wait long for their turn it has fewer, "
            "32 at least; beyond it is 503 at once, with a `Retry-After`.",
            ge=32,
        ),
    ] = 512
    slowest_body: Annotated[
        int,
        _about(
            "Bytes a second that a body has to come at, once its first 10s are over; clients send less after a 408.",
            "bytes",
            ge=1,
        ),
    ] = 1000
    max_bodies_per_user: Annotated[
        int,
        _about(
            "How many of the largest bodies, and of the largest pages, a worker holds of one user; beyond it is 429.",
            ge=3,
        ),
    ] = 4
    max_bodies_per_address: Annotated[
        int,
        _about("The same for one address; 0 behind a proxy, where all have its address.", ge=0),
    ] = 16
    max_bodies: Annotated[
        int,
        _about(
            "The same for all, a quarter of it for pages; beyond it is 503. A worker needs several times that memory.",
            ge=3,
        ),
    ] = 32
    max_head: Annotated[
        int,
        _about(
            "The largest head of a request, its address and headers together; they are kept before a token is seen.",
            "bytes",
            ge=1024,
        ),
    ] = 64 * 1024
    max_headers: Annotated[
        int, _about("How many headers a request may have; trailers behind its body count too.", ge=16)
    ] = 100
    max_url: Annotated[
        int, _about("The longest address of a request, less the cursor in it, which syncd made.", "bytes", ge=512)
    ] = 8 * 1024
    head_timeout: Annotated[
        float,
        _about(
            "How long the head of a request may take, from its first byte on; the first one from `accept` on.",
            "seconds",
            ge=0.5,
        ),
    ] = 10.0
    idle_timeout: Annotated[
        float,
        _about(
            "How long a connection may be idle between two requests, or take nothing of an answer; longer than the 60s "
            "of common load balancers, so that it is they who close it.",
            "seconds",
            ge=1,
        ),
    ] = 75.0
    quota_requests: Annotated[
        float,
        _about(
            "Requests a second of one user to one worker on average, pushes over sockets among them; 10s worth at once."
            " For every quota 0 is no bound.",
            ge=0,
        ),
    ] = 200.0
    quota_bytes_in: Annotated[
        int,
        _about("Bytes a second that one user sends to one worker on average; a minute's worth at once.", "bytes", ge=0),
    ] = 4 * 1024 * 1024
    quota_bytes_out: Annotated[
        int,
        _about("Bytes a second that one worker sends to one user on average; a minute's worth at once.", "bytes", ge=0),
    ] = 16 * 1024 * 1024
    max_names: Annotated[
        int,
        _about(
            "Names that one user may make: of devices, tables, apps and new members. What needs one more is refused.",
            ge=16,
        ),
    ] = 10_000
    quota_space_records: Annotated[
        int, _about("Records that are not deleted, of one space; one that has more takes nothing but deletions.", ge=0)
    ] = 1_000_000
    quota_space_bytes: Annotated[
        int,
        _about("Bytes of the changes that the log keeps of one space; the state takes about as much.", "bytes", ge=0),
    ] = 4 * 1024 * 1024 * 1024
    quota_user_records: Annotated[
        int, _about("Records of all spaces together that one user has made and is still a member of.", ge=0)
    ] = 2_000_000
    quota_user_bytes: Annotated[
        int, _about("Bytes of all spaces together that one user has made and is still a member of.", "bytes", ge=0)
    ] = 8 * 1024 * 1024 * 1024
    quota_devices: Annotated[
        int, _about("Devices of one user that say which copy of their store they are, as both clients' do.", ge=0)
    ] = 1000
    quota_every: Annotated[
        float,
        _about(
            "How often a worker counts what was written; meanwhile it may exceed a total's quota.", "seconds", ge=0.05
        ),
    ] = 15.0
    legacy_spaces: Annotated[
        Literal["hold", "own"],
        _about(
            "What becomes of a space that nobody has heard of when a first-generation client writes in it: `hold` "
            "keeps what it wrote until there is one, `own` makes it, its author the owner."
        ),
    ] = "hold"
    max_held: Annotated[
        int, _about("How many changes of one user are held until they may be written (first generation).", ge=1)
    ] = 10_000
    max_held_bytes: Annotated[
        int,
        _about(
            "How much of one user is held; a push that would hold more is told to come later, whole.", "bytes", ge=1024
        ),
    ] = 16 * 1024 * 1024
    pool_size: Annotated[
        int,
        _about(
            "Database connections of each worker; more than twice the database's processors gain nothing.",
            ge=1,
        ),
    ] = 8
    bus: Annotated[
        str,
        _about(
            "What carries hints between workers: `postgres`, or `nats://…` or `tls://…` to spare the database.",
            "secret",
            pattern=r"^(postgres|(nats|tls)://\S+)$",
        ),
    ] = "postgres"
    listen_url: Annotated[
        str | None,
        _about(
            "The same database without the pooler, for `LISTEN`, when `SYNCD_DATABASE_URL` leads through one.",
            "secret",
        ),
    ] = None
    max_connections_per_user: Annotated[
        int, _about("Live connections of one user to one worker; 0 for no bound. A flood must not reach others.", ge=0)
    ] = 100
    max_connections_per_address: Annotated[
        int,
        _about(
            "Connections of one address to one worker, of any kind and from `accept` on; 0 behind a proxy, where all "
            "have its address.",
            ge=0,
        ),
    ] = 4000
    max_connections: Annotated[
        int,
        _about(
            "Connections of one worker, of any kind; the next is told 503. 0: as many as it has file descriptors for, "
            "less what it needs itself.",
            ge=0,
        ),
    ] = 0
    max_frames_per_second: Annotated[
        float,
        _about("Frames a second that a user's sockets may send on average, four seconds' worth at once.", ge=1),
    ] = 200.0
    ping_interval: Annotated[
        float,
        _about(
            "A socket that is silent for so long is asked if it is there; it is ended after as long again, or, while "
            "something waits for it, when it took nothing for thrice as long.",
            "seconds",
            ge=0.5,
        ),
    ] = 20.0
    compact_every: Annotated[
        float,
        _about(
            "How often what is too old is folded out of the log, by one server of all; 0 leaves it to `syncd compact`.",
            "seconds",
            ge=0,
        ),
    ] = 86400.0
    compact_history: Annotated[
        float,
        _about(
            "How long what was overwritten stays in the log, for history, restores and devices that were away.",
            "seconds",
            ge=0,
        ),
    ] = 365 * 86400.0
    compact_tombstones: Annotated[
        float,
        _about(
            "How long it is remembered that a record was deleted; a device that was away for longer starts again, and "
            "what it wrote to unknown records before is refused. 0: for ever.",
            "seconds",
            ge=0,
        ),
    ] = 0.0
    compact_audit: Annotated[
        float,
        _about(
            "How long the audit says what was done; compaction removes what is older. 0: for ever.", "seconds", ge=0
        ),
    ] = 365 * 86400.0
    compact_devices: Annotated[
        float,
        _about(
            "How long a device that does not push is known, and counts among its user's; one that comes back is a new "
            "one, and has all that it had. 0: for ever.",
            "seconds",
            ge=0,
        ),
    ] = 365 * 86400.0
    allowed_origins: Annotated[
        tuple[str, ...],
        _about(
            "The web origins whose pages may call this server; `*` allows all. Programs send no origin.",
            "list",
        ),
    ] = ()
    demo: Annotated[
        bool,
        _about("Serve the demonstration board at /demo, with tokens for whoever gives a name: for trying it out."),
    ] = False
    log_level: Annotated[LogLevel, _about("The least that is logged.")] = "info"
    log_format: Annotated[LogFormat, _about("`text` for people, `json` for a log collector.")] = "text"
    shutdown_timeout: Annotated[
        float,
        _about(
            "How long a stop waits for what is in flight; below the 30 s of most orchestrators.",
            "seconds",
            ge=0,
        ),
    ] = 20.0
    lock_timeout_ms: Annotated[
        int, _about("How long a statement waits for a lock before the client is told to retry.", ge=1)
    ] = 5000
    statement_timeout_ms: Annotated[
        int, _about("How long a statement may take: a bound to what one request costs everyone.", ge=1)
    ] = 30000

    @classmethod
    def load(cls, environ: Mapping[str, str], **overrides: Any) -> Settings:
        """Defaults, then `environ`, then `overrides` (None and the empty string count as not given).

        Raises:
            SettingsError: a value is of the wrong type or out of range; the text says what is allowed.
        """
        given = {s.name: environ[s.variable] for s in table() if environ.get(s.variable, "").strip()}
        options = {name: value for name, value in overrides.items() if value is not None}
        given |= options
        values = {s.name: s.read(given.pop(s.name), option=s.name in options) for s in table() if s.name in given}
        if given:
            raise SettingsError(f"there is no setting called {', '.join(sorted(given))}")
        return _checked(cls(**values))

    @property
    def roles(self) -> dict[str, str]:
        """Which of our roles each of the membership service's is."""
        return dict(pair.rpartition(":")[::2] for pair in self.memberships_roles)

    def environment(self) -> dict[str, str]:
        """The variables from which `load` makes this object again: how a supervisor tells its workers."""
        changed = ((s, getattr(self, s.name)) for s in table())
        return {s.variable: s.write(value) for s, value in changed if value != s.default}


class Setting(msgspec.Struct, frozen=True):
    """One row of the table."""

    name: str
    type: Any
    kind: str
    default: Any
    reason: str
    topic: str = ""

    @property
    def option(self) -> str:
        """The option of `syncd serve`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that are allowed, or nothing where it is not a choice."""
        return tuple(str(v) for v in self.type.values) if isinstance(self.type, msgspec.inspect.LiteralType) else ()

    @property
    def metavar(self) -> str:
        """What stands for the value in a help text."""
        kinds = (self.kind, *(type(kind).__name__ for kind in _kinds(self.type)))
        return next((_METAVARS[kind] for kind in kinds if kind in _METAVARS), "TEXT")

    @property
    def wanted(self) -> str:
        """What a value has to be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        numbers = [
            kind for kind in _kinds(self.type) if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType)
        ]
        if numbers and not self.kind:
            return f"a {'whole ' * isinstance(numbers[0], msgspec.inspect.IntType)}number{_bounds(numbers[0], str)}"
        if numbers:
            return f"{_WANTED[self.kind]}{_bounds(numbers[0], self.show)}"
        return _WANTED.get(self.kind) or _WANTED.get(self.name) or _WANTED.get(type(self.type).__name__, "text")

    def read(self, value: Any, *, option: bool = False) -> Any:
        """The value from text (or from Python, when it is of the type already).

        Raises:
            SettingsError: it cannot be used; the text names the option, or else the variable, and says what is allowed.
        """
        try:
            return msgspec.convert(
                _READ.get(self.kind, _plain)(value), _annotation(self.name), strict=False, dec_hook=_path
            )
        except (ValueError, msgspec.ValidationError) as error:
            shown = "…" if self.kind == "secret" else repr(value)
            named = f"{self.option} {shown}" if option else f"{self.variable}={shown}"
            why = str(error) if self.kind == "pem" else f"it has to be {self.wanted}"
            raise SettingsError(f"{named} cannot be used: {why}. {self.reason}") from None

    def write(self, value: Any) -> str:
        """The value as text that `read` understands."""
        if isinstance(value, bool):
            return str(value).lower()
        return ",".join(value) if isinstance(value, tuple) else str(value)

    def show(self, value: Any) -> str:
        """The value as a person writes it: 365d, 10MiB."""
        units = _UNITS.get(self.kind)
        if units is None or not value:
            return f"{value:g}" if isinstance(value, float) else self.write(value)
        least = 2 if self.kind == "seconds" else 1  # 24h and 60s are read more easily than 1d and 1m
        unit, factor = next((u for u in units if value >= least * u[1] and value % u[1] == 0), units[-1])
        return f"{value / factor:g}{unit}"


def table() -> tuple[Setting, ...]:
    """All settings, in the order of the documentation."""
    return _TABLE


def markdown() -> str:
    """The table as it stands in docs/operate/settings.md."""
    return "\n".join(_markdown_rows()) + "\n"


def _markdown_rows() -> Iterator[str]:
    yield "| variable | option | default | what and why |"
    yield "|---|---|---|---|"
    for s in table():
        option = "" if s.name in NOT_AN_OPTION else f"`{s.option}`"
        choices = f" One of {', '.join(f'`{c}`' for c in s.choices)}." if s.choices else ""
        yield f"| `{s.variable}` | {option} | {_shown(s)} | {s.reason}{choices} |"


def _shown(setting: Setting) -> str:
    return "" if setting.default in (None, ()) else f"`{setting.show(setting.default)}`"


_SIZES = {
    "": 1,
    "b": 1,
    "k": 1024,
    "kb": 1000,
    "kib": 1024,
    "m": 1 << 20,
    "mb": 10**6,
    "mib": 1 << 20,
    "g": 1 << 30,
    "gib": 1 << 30,
}
_UNITS: dict[str, list[tuple[str, int]]] = {
    "seconds": [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)],
    "bytes": [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)],
}
_WANTED = {
    "seconds": "a duration such as 90s, 15m or 1h",
    "bytes": "a size such as 512KiB or 10MiB",
    "BoolType": "true or false",
    "bus": "postgres, nats://HOST:PORT or tls://HOST:PORT",
}
_SPANS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_seconds(text: str | float) -> float:
    """`90`, `90s`, `1.5m`, `1h`, `30d` in seconds."""
    return _quantity(text, _SPANS, "a duration such as 90s, 15m or 1h")


def parse_bytes(text: str | int) -> int:
    """`1048576`, `1024k`, `1MiB` in bytes."""
    return int(_quantity(text, _SIZES, "a size such as 512KiB or 10MiB"))


def _quantity(text: str | float, units: Mapping[str, float], wanted: str) -> float:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(text))
    if match is None or match[2].lower() not in units:
        raise ValueError(f"expected {wanted}")
    return float(match[1]) * units[match[2].lower()]


def _list(value: Any) -> Any:
    return tuple(filter(None, re.split(r"[,\s]+", value))) if isinstance(value, str) else value


def _pem(value: Any) -> Any:
    """PEM text, or what the file holds: a mistyped path is an error at start, not at the first token."""
    text = str(value)
    if "-----BEGIN" in text:
        return text.replace("\\n", "\n")
    try:
        return Path(text).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"neither PEM text nor a file that can be read ({error.strerror})") from None


def _plain(value: Any) -> Any:
    return value


def _path(kind: type, value: Any) -> Any:
    return Path(value).expanduser()


_METAVARS = {
    "bytes": "SIZE",
    "seconds": "DURATION",
    "list": "A,B,…",
    "pem": "PEM|FILE",
    "IntType": "N",
    "FloatType": "N",
    "BoolType": "true|false",
    "CustomType": "DIR",
}
_READ: dict[str, Callable[[Any], Any]] = {
    "list": _list,
    "bytes": parse_bytes,
    "seconds": parse_seconds,
    "pem": _pem,
}


def _kinds(of: Any) -> tuple[Any, ...]:
    return tuple(of.types) if isinstance(of, msgspec.inspect.UnionType) else (of,)


def _bounds(number: Any, show: Callable[[Any], str]) -> str:
    if number.ge is None:
        return ""
    return f", at least {show(number.ge)}" if number.le is None else f" from {show(number.ge)} to {show(number.le)}"


def _annotation(name: str) -> Any:
    return _ANNOTATIONS[name]


def _settings_table() -> tuple[Setting, ...]:
    described = msgspec.inspect.type_info(Settings)
    assert isinstance(described, msgspec.inspect.StructType)
    topic, rows = "", []
    for field in described.fields:
        topic = TOPICS.get(field.name, topic)
        rows.append(_row(field, topic))
    return tuple(rows)


def _row(field: msgspec.inspect.Field, topic: str) -> Setting:
    annotation = _ANNOTATIONS[field.name]
    meta = next(a for a in get_args(annotation) if isinstance(a, Meta))
    kind = str((meta.extra or {}).get("kind", ""))
    inner = field.type.type if isinstance(field.type, msgspec.inspect.Metadata) else field.type
    return Setting(field.name, inner, kind, field.default, str(meta.description), topic)


def _checked(settings: Settings) -> Settings:
    if settings.memberships == "service" and not settings.memberships_url:
        raise SettingsError("SYNCD_MEMBERSHIPS=service needs SYNCD_MEMBERSHIPS_URL, the address of that service")
    for pair in settings.memberships_roles:
        theirs, _, ours = pair.rpartition(":")
        if not theirs or ours not in ("owner", "writer", "reader"):
            raise SettingsError(
                f"SYNCD_MEMBERSHIPS_ROLES={pair!r} cannot be used: write admin:owner,member:writer; ours are owner, "
                "writer and reader"
            )
    if settings.invitations == "ask" and settings.memberships != "table":
        raise SettingsError("SYNCD_INVITATIONS=ask is for memberships that syncd keeps, not for SYNCD_MEMBERSHIPS")
    if settings.legacy_spaces == "own" and settings.memberships != "table":
        raise SettingsError("SYNCD_LEGACY_SPACES=own makes spaces, which is not for syncd to do with SYNCD_MEMBERSHIPS")
    if settings.migrate_url and not settings.database_url:
        raise SettingsError("SYNCD_MIGRATE_URL is for a database of yours: set SYNCD_DATABASE_URL as well")
    if settings.demo and (settings.memberships != "table" or settings.jwt_public_key or settings.jwks_url):
        raise SettingsError(
            "SYNCD_DEMO makes its own tokens and members: no public keys, no outside memberships with it"
        )
    if settings.listen_url and not settings.database_url:
        raise SettingsError("SYNCD_LISTEN_URL is for a database of yours: set SYNCD_DATABASE_URL as well")
    return settings


_ANNOTATIONS = get_type_hints(Settings, include_extras=True)
_TABLE = _settings_table()

if __name__ == "__main__":
    print(markdown(), end="")
