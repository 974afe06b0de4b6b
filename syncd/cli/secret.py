"""The secret that syncd makes for itself when it is given no key."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click
import msgspec

from syncd.settings import Settings

FILE = "jwt_secret"


def has_key(settings: Settings) -> bool:
    """Whether the operator configured how tokens are verified."""
    return bool(settings.jwt_secret or settings.jwt_public_key or settings.jwks_url)


def secret_file(settings: Settings) -> Path:
    """Where the data directory's secret is."""
    return settings.data_dir / FILE


def read_secret(settings: Settings) -> str | None:
    """The configured secret, else the data directory's, else None."""
    if settings.jwt_secret:
        return settings.jwt_secret
    try:
        return secret_file(settings).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def with_secret(settings: Settings) -> Settings:
    """The settings with a way to verify tokens: the operator's, else the data directory's secret."""
    if has_key(settings):
        return settings
    try:
        secret = read_secret(settings) or _make(secret_file(settings))
    except OSError as error:
        raise click.ClickException(
            f"the secret for tokens in {secret_file(settings)} cannot be read or made: {error.strerror}. "
            "Choose another --data-dir, or set SYNCD_JWT_SECRET."
        ) from None
    return msgspec.structs.replace(settings, jwt_secret=secret)


def _make(path: Path) -> str:
    """A new secret, on disk whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{FILE}.new")
    new.unlink(missing_ok=True)
    secret = secrets.token_urlsafe(48)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(descriptor)
    new.rename(path)
    return secret
