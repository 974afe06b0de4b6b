"""One setting: its names, and how its value is read, written and shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Meta

from syncd.settings.declared import TOPICS, DeclaredSettings

PREFIX = "SYNCD_"


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the text names the variable and what is allowed."""


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
            shown = "…" if self.kind in ("secret", "secrets") else repr(value)
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
    "secrets": "A,B,…",
    "pem": "PEM|FILE",
    "IntType": "N",
    "FloatType": "N",
    "BoolType": "true|false",
    "CustomType": "DIR",
}
_READ: dict[str, Callable[[Any], Any]] = {
    "list": _list,
    "secrets": _list,
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
    described = msgspec.inspect.type_info(DeclaredSettings)
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


_ANNOTATIONS = get_type_hints(DeclaredSettings, include_extras=True)
_TABLE = _settings_table()
