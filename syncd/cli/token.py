"""`syncd token`: a token for development and tests, and those of services."""

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


class TokenGroup(click.Group):
    """Without the name of a subcommand it makes a token: `syncd token ada`, `syncd token --service billing`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`make` stands before what is no subcommand."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group("token", cls=TokenGroup)
def token_command() -> None:
    """Print a token for a user, or one for a service; list those of services, and revoke them.

    `syncd token ada` is short for `syncd token make ada`.
    """


@token_command.command("make")
@click.argument("user", required=False)
@click.option(
    "--ttl", metavar="TIME", help="How long it is valid: 90s, 15m, 1h, 30d. Default: 1h; of a service: for ever."
)
@click.option("--space", "spaces", multiple=True, metavar="ID:ROLE", help="A space of the token's claim; repeatable.")
@click.option("--service", metavar="NAME", help="For a service, which acts as itself, or on behalf of USER.")
@click.option("--spaces", "listed", metavar="ID,ID", help="Where the service's own user becomes a member.")
@click.option("--role", type=click.Choice(ROLES), default="writer", show_default=True, help="As what it does.")
@click.option("--database-url", metavar="URL", help="The database, as a superuser: for a service's token.")
@settings_options("data_dir", "jwt_issuer", "jwt_audience")
def make_command(
    user: str | None, ttl: str | None, spaces: tuple[str, ...], service: str | None, listed: str | None, role: str,
    database_url: str | None, **options: Any,
) -> None:  # fmt: skip
    """Print a token for USER, for a server that uses the data directory's or SYNCD_JWT_SECRET's secret.

    The claim `spaces` counts with SYNCD_MEMBERSHIPS=token only. With --service it is a token that the database knows:
    it is shown once, and ends when it is revoked.
    """
    settings = load_settings(**options)
    try:
        seconds = None if ttl is None else parse_seconds(ttl)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--ttl") from None
    if service is None:
        if user is None or listed is not None:
            raise click.UsageError("Name a USER, or a service with --service NAME and its --spaces.")
        claim = [_space(text) for text in spaces] if spaces else None
        click.echo(make_token(settings, user, 3600 if seconds is None else seconds, claim))
        return
    from syncd.cli.service_tokens import make_service_token

    if spaces or (user is not None and listed is not None):
        raise click.UsageError("A service has --spaces as itself; on behalf of USER it has what that one may.")
    click.echo(make_service_token(settings, database_url, service, user, _ids(listed), role, seconds))


@token_command.command("list")
@click.option("--database-url", metavar="URL", help="The database, as a superuser.")
@settings_options("data_dir")
def list_command(database_url: str | None, **options: Any) -> None:
    """Show the tokens of services, those that ended too. The tokens themselves are nowhere."""
    from syncd.cli.service_tokens import show_service_tokens

    show_service_tokens(load_settings(**options), database_url)


@token_command.command("revoke")
@click.argument("number", type=click.IntRange(1))
@click.option("--database-url", metavar="URL", help="The database, as a superuser.")
@settings_options("data_dir")
def revoke_command(number: int, database_url: str | None, **options: Any) -> None:
    """End the token of this NUMBER, as `syncd token list` has it.

    Servers refuse it within two seconds, and end the sockets and streams that are open with it.
    """
    from syncd.cli.service_tokens import revoke_service_token

    revoke_service_token(load_settings(**options), database_url, number)


def _ids(listed: str | None) -> list[str]:
    return [] if listed is None else [text for text in listed.split(",") if text]


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
