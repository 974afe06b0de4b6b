"""What `syncd restore` gives to pg_restore."""

from __future__ import annotations

import pytest

from syncd.cli.restore import parted


@pytest.mark.parametrize(
    ("url", "plain", "password"),
    [
        ("postgresql://ann:s%40cret@db.example:5432/syncd", "postgresql://ann@db.example:5432/syncd", "s@cret"),
        (
            "postgresql://ann:a:b@db.example/syncd?sslmode=require",
            "postgresql://ann@db.example/syncd?sslmode=require",
            "a:b",
        ),
        ("postgresql://ann@db.example/syncd", "postgresql://ann@db.example/syncd", None),
        ("postgresql://db.example:5432/syncd", "postgresql://db.example:5432/syncd", None),
        ("postgresql:///syncd?host=/run/pg&user=ann", "postgresql:///syncd?host=/run/pg&user=ann", None),
    ],
)
def test_no_password_is_on_its_command_line(url: str, plain: str, password: str | None) -> None:
    assert parted(url) == (plain, {} if password is None else {"PGPASSWORD": password})
