"""`syncd token`: a token for development, tests and machines."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from typing import Any

import click

from syncd.cli.options import load_settings, settings_options
from syncd.cli.secret import has_key, read_secret, secret_file
from syncd.settings import Settings, parse_seconds

ROLES = ("owner", "writer", "reader")


@click.command("token")
@click.argument("user")
@click.option("--ttl", default="1h", show_default=True, help="How long it is valid: 90s, 15m, 1h, 30d.")
@click.option("--space", "spaces", multiple=True, metavar="ID:ROLE", help="A space of the token's claim; repeatable.")
@settings_options("data_dir", "jwt_issuer", "jwt_audience")
def token_command(user: str, ttl: str, spaces: tuple[str, ...], **options: Any) -> None:
    """Print a token for USER, for a server that uses the data directory's or SYNCD_JWT_SECRET's secret.

    The claim `spaces` counts with SYNCD_MEMBERSHIPS=token only.
    """
    settings = load_settings(**options)
    try:
        seconds = parse_seconds(ttl)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--ttl") from None
    click.echo(make_token(settings, user, seconds, [_space(text) for text in spaces] if spaces else None))


def make_token(settings: Settings, user: str, ttl: float, spaces: list[dict[str, str]] | None = None) -> str:
    """A signed HS256 token; `ttl` in seconds."""
    import jwt

    claims: dict[str, Any] = {"sub": user, "iat": int(time.time()), "exp": int(time.time() + ttl)}
    claims |= {"iss": settings.jwt_issuer} if settings.jwt_issuer else {}
    claims |= {"aud": settings.jwt_audience} if settings.jwt_audience else {}
    claims |= {"spaces": spaces} if spaces is not None else {}
    return jwt.encode(claims, _secret(settings), algorithm="HS256")


def token_command_line(settings: Settings) -> str:
    """What prints a token for a server of these settings, in any folder; "" where only another service makes tokens.
    `…` stands for a secret of the operator's."""
    if has_key(settings) and not settings.jwt_secret:
        return ""
    words = [*_program(), "token", "ada"]
    words += [] if settings.jwt_secret else ["--data-dir", str(settings.data_dir.resolve())]
    words += ["--jwt-issuer", settings.jwt_issuer] if settings.jwt_issuer else []
    words += ["--jwt-audience", settings.jwt_audience] if settings.jwt_audience else []
    words += ["--space", "garden:owner"] if settings.memberships == "token" else []
    return f"{'SYNCD_JWT_SECRET=… ' if settings.jwt_secret else ''}{shlex.join(words)}"


def _program() -> list[str]:
    """How this program is called: by its name where that leads to it, else by its path."""
    path = os.path.abspath(sys.argv[0])
    if os.path.basename(path) != "syncd":
        return [sys.executable, "-m", "syncd"]
    return ["syncd"] if shutil.which("syncd") == path else [path]


def _secret(settings: Settings) -> str:
    try:
        secret = read_secret(settings)
    except OSError as error:
        raise click.ClickException(f"{secret_file(settings)} cannot be read: {error.strerror}.") from None
    if secret is None and has_key(settings):
        raise click.ClickException(
            "the server verifies with a public key: its private half is not here, so let the "
            "identity provider issue the token."
        )
    if secret is None:
        raise click.ClickException(
            f"there is no secret: set SYNCD_JWT_SECRET, or start `syncd serve --data-dir "
            f"{settings.data_dir}` once, which makes {secret_file(settings)}."
        )
    return secret


def _space(text: str) -> dict[str, str]:
    # From the right: an id may hold colons, a role never does.
    identity, colon, role = text.rpartition(":")
    if not colon or not identity or role not in ROLES:
        raise click.BadParameter(f"{text!r} is not ID:ROLE with a role of {', '.join(ROLES)}", param_hint="--space")
    return {"id": identity, "role": role}
