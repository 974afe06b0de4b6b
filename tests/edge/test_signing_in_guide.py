"""docs/guide/signing-in.md: each recipe's settings have the tokens of that provider believed."""

from __future__ import annotations

import os
import re
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from syncd.app.from_settings import tokens_of
from syncd.core.errors import Unauthorized
from syncd.settings import Settings
from tests.support.programs import REPOSITORY
from tests.support.provider import Provider
from tests.support.sign_in import SHAPED, Signer, publish

PAGE = (REPOSITORY / "docs/guide/signing-in.md").read_text(encoding="utf-8")
SECRET = "a secret of more than thirty-two bytes"


def exports(heading: str) -> dict[str, str]:
    """The settings of the first block below a heading."""
    block = re.search(rf"^##+ {heading}\n.*?^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert block is not None
    return dict(re.findall(r"^export (SYNCD_\w+)=(\S+)", block[1], re.MULTILINE))


def test_each_provider_of_the_page_is_tried() -> None:
    part = PAGE.split("## An identity provider")[1].split("\n## ")[0]
    assert re.findall(r"^### (.+)$", part, re.MULTILINE) == list(SHAPED)


@pytest.mark.parametrize("name", SHAPED)
async def test_its_tokens_are_believed_by_its_recipe(name: str) -> None:
    shaped, said = SHAPED[name], exports(name)
    signer = Signer("k-2026", shaped.algorithm)
    assert urlsplit(said["SYNCD_OIDC_ISSUER"]).path == shaped.path
    async with Provider({}) as provider:
        issuer = publish(provider, signer, shaped.path, keys=f"/{shaped.keys.removeprefix('/')}")
        tokens = tokens_of(Settings.load({**said, "SYNCD_OIDC_ISSUER": issuer}))
        found = await tokens.identity(b"Bearer " + signer.token(issuer, **shaped.claims).encode())
        assert found.user == shaped.user
        other = Signer("k-2026", shaped.algorithm).token(issuer, **shaped.claims)
        with pytest.raises(Unauthorized):
            await tokens.identity(b"Bearer " + other.encode())


async def test_several_issuers_have_users_of_their_own() -> None:
    first, second = Signer(), Signer()
    said = exports("Several issuers")
    assert len(Settings.load(said).oidc_issuer) == 2
    async with Provider({}) as provider:
        a, b = publish(provider, first, "/"), publish(provider, second, "/realms/staff")
        tokens = tokens_of(Settings.load({**said, "SYNCD_OIDC_ISSUER": f"{a},staff={b}"}))
        for signer, issuer, user in ((first, a, "4711"), (second, b, "staff:4711")):
            token = signer.token(issuer, sub="4711", aud=said["SYNCD_JWT_AUDIENCE"])
            assert (await tokens.identity(b"Bearer " + token.encode())).user == user


async def test_an_application_s_own_login(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {**exports("Your own application"), "SYNCD_JWT_SECRET": SECRET}
    monkeypatch.setitem(os.environ, "SYNCD_JWT_SECRET", SECRET)
    code = re.search(r"^```python\n# app\.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {"__name__": "app"}
    exec(compile(code[1], "app.py", "exec"), names)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(names["app"]), base_url="http://app") as client:
        assert (await client.post("/login", json={"user": "alice", "password": "wrong"})).status_code == 401
        token = (await client.post("/login", json={"user": "alice", "password": "correct horse"})).json()["token"]
    assert jwt.decode(token, SECRET, algorithms=["HS256"], audience="syncd")["exp"] > time.time()
    tokens = tokens_of(Settings.load(said))
    assert (await tokens.identity(b"Bearer " + token.encode())).user == "alice"
