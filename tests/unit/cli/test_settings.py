"""The table of settings: documented, typed, and clear about what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syncd.settings import Settings, SettingsError, markdown, parse_bytes, parse_seconds, table

DOCUMENT = Path(__file__).parents[3] / "docs" / "operate" / "settings.md"
PEM = """\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


def test_every_setting_is_documented_as_it_is() -> None:
    written = DOCUMENT.read_text().split("<!-- table -->\n")[1].split("<!-- end -->")[0]
    assert written == markdown(), "run: python -m syncd.settings, and paste its output into docs/operate/settings.md"


def test_every_setting_has_a_reason_that_is_a_sentence() -> None:
    assert [s.name for s in table() if len(s.reason) < 20 or not s.reason.endswith(".")] == []


def test_the_defaults_are_what_the_protocol_promises() -> None:
    settings = Settings.load({})
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 3050, 1)
    assert (settings.max_body, settings.max_changes, settings.max_change) == (10 << 20, 1000, 1 << 20)
    assert (settings.max_depth, settings.max_clock_skew) == (64, 60.0)


def test_an_option_wins_over_the_variable_and_an_empty_one_is_not_set() -> None:
    assert Settings.load({"SYNCD_PORT": "1", "SYNCD_HOST": " "}, port="2").port == 2
    assert Settings.load({"SYNCD_PORT": "", "SYNCD_HOST": " "}, port=None) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "0", 0),
        ("data_dir", "some where", Path("some where")),
        ("data_dir", "~/there", Path.home() / "there"),
        ("max_body", "2MiB", 2 << 20),
        ("max_clock_skew", "2m", 120.0),
        ("max_schema_version", "3", 3),
        (
            "allowed_origins",
            "https://a.example, https://b.example",
            ("https://a.example", "https://b.example"),
        ),
        ("memberships", "token", "token"),
        ("bus", "postgres", "postgres"),
        (
            "bus",
            "nats://ada:word@one.example:4222,tls://two.example",
            "nats://ada:word@one.example:4222,tls://two.example",
        ),
        ("jwt_public_key", PEM, PEM),
        ("jwt_public_key", PEM.replace("\n", "\\n"), PEM),
    ],
)
def test_text_becomes_a_value_and_goes_to_a_worker_unchanged(name: str, text: str, value: Any) -> None:
    settings = Settings.load({f"SYNCD_{name.upper()}": text})
    assert getattr(settings, name) == value
    assert Settings.load(settings.environment()) == settings


def test_a_key_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(PEM)
    assert Settings.load({"SYNCD_JWT_PUBLIC_KEY": str(tmp_path / "key.pem")}).jwt_public_key == PEM


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("port", "http", "SYNCD_PORT='http' cannot be used"),
        ("port", "65536", "65535"),
        ("workers", "0", "a whole number from 1 to 256"),
        ("max_body", "10 apples", "a size such as 512KiB"),
        ("max_clock_skew", "-1", "a duration such as 90s"),
        ("memberships", "magic", "service, table, token"),
        ("jwt_public_key", "/no/such/file.pem", "neither PEM text nor a file"),
        ("memberships", "service", "needs SYNCD_MEMBERSHIPS_URL"),
        ("migrate_url", "postgresql://owner@/db", "set SYNCD_DATABASE_URL as well"),
        ("listen_url", "postgresql://runtime@/db", "set SYNCD_DATABASE_URL as well"),
        ("bus", "redis://ada:word@example", "SYNCD_BUS=… cannot be used"),
        ("max_schema_version", "new", "SYNCD_MAX_SCHEMA_VERSION"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(name: str, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({f"SYNCD_{name.upper()}": text})
    assert said in str(caught.value)


def test_a_secret_is_not_repeated_in_an_error() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({}, database_url=123)
    assert "123" not in str(caught.value)


def test_what_is_no_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="no setting called prot"):
        Settings.load({}, prot=1)


def test_sizes_and_durations() -> None:
    assert [parse_seconds(text) for text in ("90", "1.5m", "2h", "250ms", 3)] == [90, 90, 7200, 0.25, 3]
    assert [parse_bytes(text) for text in ("1024", "1k", "1 MiB", "1MB", 7)] == [
        1024,
        1024,
        1 << 20,
        10**6,
        7,
    ]
