"""The secret that syncd makes for itself when it is given no key."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

import click
import msgspec

from syncd.postgres.launch import Account
from syncd.settings import Settings

FILE = "jwt_secret"
SHORTEST_SECRET = 32
NEW_SECRET = "export SYNCD_JWT_SECRET=$(openssl rand -base64 48)"


def has_key(settings: Settings) -> bool:
    """Whether the operator configured how tokens are verified."""
    return bool(settings.jwt_secret or settings.jwt_public_key or settings.jwks_url or settings.oidc_issuer)


def check_secret(settings: Settings) -> None:
    """Ends the program where the operator's secret can be guessed."""
    size = len((settings.jwt_secret or "").encode())
    if 0 < size < SHORTEST_SECRET:
        raise click.ClickException(
            f"SYNCD_JWT_SECRET has {size} bytes, which can be guessed: give it {SHORTEST_SECRET} or more. "
            f"`{NEW_SECRET}` makes one."
        )


def secret_file(settings: Settings) -> Path:
    """Where the data directory's secret is."""
    return settings.data_dir / FILE


def read_secret(settings: Settings) -> str | None:
    """The configured secret, else the data directory's, else None."""
    if settings.jwt_secret:
        return settings.jwt_secret
    try:
        file = os.open(secret_file(settings), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(secret_file(settings))) from None
        raise
    with open(file, encoding="ascii") as secret:
        return secret.read().strip()


def with_secret(settings: Settings) -> Settings:
    """The settings with a way to verify tokens: the operator's, else the data directory's secret."""
    if has_key(settings):
        return settings
    try:
        secret = read_secret(settings) or _made(settings)
    except OSError as error:
        raise click.ClickException(
            f"the secret for tokens in {secret_file(settings)} cannot be read or made: {error.strerror}. "
            "Choose another --data-dir, or set SYNCD_JWT_SECRET."
        ) from None
    return msgspec.structs.replace(settings, jwt_secret=secret)


def _made(settings: Settings) -> str:
    """A new secret, on disk whole or not at all: made as the user that the folder belongs to, where this is root."""
    path = secret_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    owner = path.parent.stat()
    account = Account("", owner.st_uid, owner.st_gid, os.geteuid() == 0 != owner.st_uid)
    new = path.with_name(f"{FILE}.new")
    secret = secrets.token_urlsafe(48)
    with account.acting():
        new.unlink(missing_ok=True)
    with open(account.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="ascii") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    with account.acting():
        new.rename(path)
    return secret
