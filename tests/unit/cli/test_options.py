"""What `--help` shows and what a bad option is told, in the words of who typed it."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner, Result

from syncd.cli import main
from syncd.settings import NOT_AN_OPTION, TOPICS, Settings, SettingsError, table


def typed(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, arguments, env=env)


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_the_help_has_the_settings_by_topic(command: str) -> None:
    text = typed(command, "--help").output
    sections = re.split(r"^(\w.*):$", text, flags=re.MULTILINE)[1:]
    found = dict(zip(sections[::2], sections[1::2], strict=True))
    assert [title for title in found if title != "Options"] == list(TOPICS.values())
    for setting in table():
        if setting.name not in NOT_AN_OPTION:
            assert re.search(rf"^  {setting.option}\b", found[setting.topic], re.MULTILINE), setting.name
    assert max(len(re.findall(r"^  --", section, re.MULTILINE)) for section in found.values()) <= 8


def test_defaults_are_as_a_person_writes_them() -> None:
    text = re.sub(r"\s+", " ", typed("serve", "--help").output)
    for shown in ("[365d]", "[10MiB]", "[1MiB]", "[2GiB]", "[24h]", "[60s]", "[200]", "[3050]"):
        assert shown in text
    assert not re.search(r"\[\d+\.0\]|\[(?!\d*000000\])\d{6,}\]", text)  # a million is read


def test_what_is_shown_is_read_as_the_same() -> None:
    for setting in table():
        if setting.default not in (None, ()):
            assert setting.read(setting.show(setting.default)) == setting.default


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "abc"), "--port 'abc' cannot be used: it has to be a whole number from 0 to 65535."),
        (("--workers", "0"), "--workers '0' cannot be used: it has to be a whole number from 1 to 256."),
        (("--max-body", "10"), "it has to be a size such as 512KiB or 10MiB, at least 1KiB."),
        (("--ping-interval", "no"), "it has to be a duration such as 90s, 15m or 1h, at least"),
        (("--max-frames-per-second", "0"), "it has to be a number, at least 1."),
        (("--max-schema-version", "x"), "it has to be a whole number, at least 0."),
        (("--log-level", "all"), "it has to be one of debug, error, info, warning."),
        (("--bus", "redis://ada:word@x"), "--bus … cannot be used: it has to be postgres, nats://HOST:PORT or"),
    ],
)  # fmt: skip
def test_a_bad_option_is_named_as_it_was_typed(arguments: tuple[str, ...], said: str) -> None:
    done = typed("serve", *arguments, env={"SYNCD_PORT": "3050"})
    assert done.exit_code == 1
    assert said in done.output
    assert "SYNCD_" not in done.output.split(" cannot be used")[0]
    assert "Expected" not in done.output
    assert "`str`" not in done.output


@pytest.mark.parametrize(
    ("variable", "text"), [("SYNCD_PORT", "abc"), ("SYNCD_DEMO", "maybe"), ("SYNCD_MAX_CHANGES", "0")]
)
def test_a_bad_variable_is_named_as_a_variable(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({variable: text})
    assert str(caught.value).startswith(f"{variable}='{text}' cannot be used: it has to be ")
    assert "Expected" not in str(caught.value)
