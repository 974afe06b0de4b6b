"""Where the settings come from: defaults, the environment, options; and what of them cannot be together."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from syncd.core.issuers import issuers_of
from syncd.settings.declared import DeclaredSettings
from syncd.settings.setting import SettingsError, table


class Settings(DeclaredSettings, frozen=True, kw_only=True):
    """The settings of this process, read and checked."""

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


def is_network(text: str) -> bool:
    """Whether it is an address, or a network in CIDR notation."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _check_issuers(settings: Settings) -> None:
    if not settings.oidc_issuer:
        return
    try:
        issuers = issuers_of(settings.oidc_issuer)
    except ValueError as why:
        raise SettingsError(f"SYNCD_OIDC_ISSUER cannot be used: {why}") from None
    if not settings.jwt_audience:
        raise SettingsError(
            "SYNCD_OIDC_ISSUER needs SYNCD_JWT_AUDIENCE: an issuer's tokens for other applications would be taken too"
        )
    if (settings.jwks_url or settings.jwt_public_key) and any(not one.name for one in issuers):
        raise SettingsError(
            "SYNCD_OIDC_ISSUER and SYNCD_JWKS_URL or SYNCD_JWT_PUBLIC_KEY could sign for the same user: give the "
            "issuer a name, staff=https://login.example.com"
        )
    if settings.memberships == "token" and (len(issuers) > 1 or settings.jwks_url or settings.jwt_public_key):
        raise SettingsError(
            "SYNCD_MEMBERSHIPS=token is for one issuer: each of several could put its users into the others' spaces"
        )


def _checked(settings: Settings) -> Settings:
    _check_issuers(settings)
    if settings.memberships == "service" and not settings.memberships_url:
        raise SettingsError("SYNCD_MEMBERSHIPS=service needs SYNCD_MEMBERSHIPS_URL, the address of that service")
    for proxy in settings.trusted_proxies:
        if not is_network(proxy):
            raise SettingsError(
                f"SYNCD_TRUSTED_PROXIES={proxy!r} cannot be used: write addresses and networks, 10.0.0.0/8,192.0.2.1"
            )
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
    if settings.demo and (
        settings.memberships != "table" or settings.jwt_public_key or settings.jwks_url or settings.oidc_issuer
    ):
        raise SettingsError(
            "SYNCD_DEMO makes its own tokens and members: no public keys, no outside memberships with it"
        )
    if settings.read_urls and not settings.database_url:
        raise SettingsError("SYNCD_READ_URLS is for standbys of a database of yours: set SYNCD_DATABASE_URL as well")
    if settings.listen_url and not settings.database_url:
        raise SettingsError("SYNCD_LISTEN_URL is for a database of yours: set SYNCD_DATABASE_URL as well")
    return settings
