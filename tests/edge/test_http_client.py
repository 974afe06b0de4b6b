"""What a server asks others: the addresses are in no log, and asking holds nobody up."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from syncd.consumers.delivery import deliver
from syncd.core.errors import Unauthorized
from syncd.edge.memberships import MembershipService, MembershipSource
from syncd.edge.providers import PublicKeys
from syncd.edge.tokens import ASYMMETRIC
from syncd.service import http_client
from tests.support.provider import Provider
from tests.support.receiver import receiving

SECRET = "s3cret"


def public(kid: Any, **other: Any) -> dict[str, Any]:
    """A key as a provider publishes it."""
    made = jwt.algorithms.OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key(), as_dict=True)
    return {**made, "kid": kid, "alg": "EdDSA", "use": "sig", **other}


@contextmanager
def a_host_s_logging(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """That of a program which wants to know everything of the library."""
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "httpx2"):
        yield caplog


async def test_a_webhook_s_address_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with a_host_s_logging(caplog):
        async with receiving() as receiver:
            assert (await deliver(f"{receiver.url}&key={SECRET}", {}, b"{}", private=True)).taken
            async with httpx2.AsyncClient() as another:
                await another.post(f"{receiver.url}&of=host", content=b"{}")
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if SECRET in line] == []
    assert [line for line in said if "of=host" in line], "what the host itself asks is its own"


async def test_the_addresses_of_keys_and_memberships_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with a_host_s_logging(caplog):
        async with Provider({"keys": [public("a")]}) as provider:
            await PublicKeys(f"{provider.url}?key={SECRET}", ASYMMETRIC).key("a")
            provider.body = {"spaces": []}
            service = MembershipService(MembershipSource(f"{provider.url}?key={SECRET}&user={{user}}", None))
            assert await service.spaces("ada") == []
            await service.close()
    assert [record.getMessage() for record in caplog.records if SECRET in record.getMessage()] == []


def test_a_process_of_its_own_has_the_libraries_say_warnings_alone() -> None:
    program = (
        "import logging, httpx2, httpcore2\n"
        "from syncd.cli.logs import start_logging\n"
        "from syncd.settings import Settings\n"
        "start_logging(Settings.load({'SYNCD_LOG_LEVEL': 'debug'}))\n"
        "for name in ('httpx2', 'httpcore2.http11', 'httpcore2.connection'):\n"
        f"    logging.getLogger(name).info('https://example.com/{SECRET}')\n"
        "logging.getLogger('syncd').info('begun')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "begun" in done.stderr
    assert SECRET not in done.stderr


async def test_an_invented_key_id_does_not_hold_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authorities are read once, and beside the loop."""
    reads, made = list[bool](), ssl.create_default_context

    def counted(*given: Any, **named: Any) -> Any:
        reads.append(_has_loop())
        return made(*given, **named)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    http_client.trusted.cache_clear()
    async with Provider({"keys": [public("a")]}) as provider:
        for _ in range(3):
            with pytest.raises(Unauthorized):
                await PublicKeys(provider.url, ASYMMETRIC).key("invented")
    assert [held for held in reads if held] == [], "read in the loop"
    assert len(reads) == 1


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize(
    "bad",
    [public(["a", "list"]), public({}), public(7), {"kty": "OKP", "crv": "Ed25519", "x": 7, "kid": "x"}, 7, None,
     {"kty": ["RSA"]}, {"kty": "RSA", "n": [], "e": {}}],
)  # fmt: skip
async def test_one_bad_key_does_not_take_the_others_along(bad: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async with Provider({"keys": [bad, public("good"), bad]}) as provider:
        keys = PublicKeys(provider.url, ASYMMETRIC)
        assert await keys.key("good")
        await keys._fetch()
    assert capsys.readouterr().out.count("keys are passed over") == 1
