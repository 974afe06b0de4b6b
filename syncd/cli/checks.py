"""Checks of this machine and its configuration: folders, keys, and the services that syncd asks."""

from __future__ import annotations

import difflib
import os
import re
import stat
from typing import Any

from syncd.cli.secret import NEW_SECRET, SHORTEST_SECRET, read_secret, secret_file
from syncd.core.issuers import issuers_of
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.findings import Finding, fail, ok, warn
from syncd.postgres.launch import EmbeddedError
from syncd.settings import PREFIX, Settings, table

# Nothing to say: the check does not apply.
NOTHING = ok("", "")


def check_environment() -> Finding:
    """A variable that is spelt wrong is silently ignored by everything else."""
    known = [setting.variable for setting in table()]
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if not unknown:
        return ok("environment", "every SYNCD_ variable is known")
    close = difflib.get_close_matches(unknown[0], known, 1)
    remedy = f"perhaps {close[0]}" if close else "docs/operate/settings.md lists all"
    return warn("environment", f"not a setting: {', '.join(unknown)}", remedy)


def check_data_dir(settings: Settings) -> list[Finding]:
    """Whether it can be used, who else can look into it, and where the socket is."""
    path = settings.data_dir.absolute()
    there = os.path.exists(path)
    if settings.database_url is not None and not there:
        return []
    if not there:
        parent = next(folder for folder in path.parents if os.path.exists(folder))
        if parent.is_dir() and os.access(parent, os.W_OK):
            return [ok("data directory", f"{path} will be made")]
        return [
            fail(
                "data directory",
                f"{path} cannot be made: {parent} is not writable",
                f"sudo install -d -o $USER {path}",
            )
        ]
    if not path.is_dir():
        return [fail("data directory", f"{path} is a file", "choose another --data-dir")]
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return [fail("data directory", f"{path} cannot be used by this user", f"sudo chown -R $USER {path}")]
    found = [ok("data directory", str(path))]
    if stat.S_IMODE(path.stat().st_mode) & 0o022:
        found = [warn("data directory", f"others can write to {path}", f"chmod go-w {path}")]
    return [*found, *([_socket(settings)] if settings.database_url is None else [])]


def _socket(settings: Settings) -> Finding:
    try:
        folder = EmbeddedPostgres(settings.data_dir).socket_dir
    except EmbeddedError as error:
        return fail("socket", str(error), "see above")
    if folder.parent != settings.data_dir.absolute():
        return warn(
            "socket",
            f"the path is too long for a socket, so it is in {folder}",
            "choose a shorter --data-dir",
        )
    return ok("socket", f"{len(os.fsencode(folder))} bytes of path")


def check_keys(settings: Settings) -> list[Finding]:
    """How tokens are verified."""
    if settings.jwt_public_key or settings.jwks_url or settings.oidc_issuer:
        return [_public_key(settings.jwt_public_key)] if settings.jwt_public_key else []
    try:
        secret = read_secret(settings)
    except OSError as error:
        return [fail("secret", f"cannot be read: {error}", f"sudo chown $USER {secret_file(settings)}")]
    if secret is None:
        return [warn("secret", "none yet: `syncd serve` makes one in the data directory", NEW_SECRET)]
    if len(secret.encode()) < SHORTEST_SECRET:
        length = len(secret.encode())
        return [fail("secret", f"{length} bytes can be guessed; HS256 asks for {SHORTEST_SECRET}", NEW_SECRET)]
    return [*_secret_mode(settings), ok("secret", f"{len(secret.encode())} bytes")]


def _secret_mode(settings: Settings) -> list[Finding]:
    path = secret_file(settings)
    if settings.jwt_secret or not stat.S_IMODE(path.stat().st_mode) & 0o077:
        return []
    return [fail("secret", f"others can read {path}", f"chmod 600 {path}, and change it if somebody may have")]


def _public_key(pem: str) -> Finding:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
    except ValueError as error:
        return fail("public key", f"not a public key in PEM: {error}", "openssl pkey -in private.pem -pubout")
    return ok("public key", type(key).__name__.lstrip("_"))


async def check_jwks(settings: Settings) -> Finding:
    """Whether the identity provider's keys can be fetched."""
    if settings.jwks_url is None:
        return NOTHING
    answer, problem = await _get(settings.jwks_url)
    keys = answer.get("keys") if isinstance(answer, dict) else None
    if problem or not isinstance(keys, list):
        return fail("JWKS", problem or "the answer has no `keys`", f"curl -v {settings.jwks_url}")
    return ok("JWKS", f"{len(keys)} keys")


async def check_issuers(settings: Settings) -> list[Finding]:
    """Whether each issuer says where its keys are, and they can be fetched."""
    if not settings.oidc_issuer:
        return []
    from syncd.edge.providers import discovery_of, keys_address

    found = []
    for issuer in issuers_of(settings.oidc_issuer):
        try:
            said, problem = await _get(discovery_of(issuer.url))
            answer, problem = (None, problem) if problem else await _get(keys_address(said, issuer.url))
        except ValueError as why:
            answer, problem = None, f"{discovery_of(issuer.url)}: {why}"
        keys = answer.get("keys") if isinstance(answer, dict) else None
        if problem or not isinstance(keys, list):
            problem = problem or "the answer has no `keys`"
            found.append(fail("issuer", problem, f"curl -v {discovery_of(issuer.url)}"))
        else:
            found.append(ok("issuer", f"{issuer.url}: {len(keys)} keys"))
    return found


async def check_memberships(settings: Settings) -> Finding:
    """Whether the membership service answers."""
    if settings.memberships != "service" or settings.memberships_url is None:
        return NOTHING
    from syncd.edge.memberships import MembershipSource

    source = MembershipSource(settings.memberships_url, settings.memberships_header, settings.roles)
    # An unknown user may well be unknown to the service.
    answer, problem = await _get(**source.request("syncd-doctor"), unknown=[])
    if problem or source.spaces(answer, set(), set()) is None:
        remedy = "ask it with curl -v as syncd does: docs/operate/running.md, Memberships"
        return fail("memberships", problem or "the answer is not a list of spaces", remedy)
    return ok("memberships", "the service answers")


async def _get(url: str, unknown: Any = None, **asked: Any) -> tuple[Any, str]:
    """The JSON of an answer, `unknown` for a 404 where that is given, or what was wrong."""
    import httpx2

    try:
        async with httpx2.AsyncClient(timeout=5) as client:
            answer = await client.get(url, **asked)
            if answer.status_code == 404 and unknown is not None:
                return unknown, ""
            answer.raise_for_status()
            return answer.json(), ""
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        return None, f"{url} cannot be used: {error or type(error).__name__}"


def without_password(url: str) -> str:
    """A database URL as it may be shown."""
    return re.sub(r"//([^:/@]*):[^@]*@", r"//\1:…@", url)
