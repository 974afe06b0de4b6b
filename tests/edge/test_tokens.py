"""Who gets in: a token of this server's key, not expired, for this audience. Everything else is 401."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from syncd.edge.tokens import MAX_TOKEN
from tests.support.harness import Server
from tests.support.socket_device import opened
from tests.support.wire import Device, edit, unique

PROTECTED = [
    ("POST", "/sync/app"),
    ("GET", "/sync/app/pull"),
    ("GET", "/spaces"),
    ("POST", "/spaces"),
    ("GET", "/spaces/x"),
    ("DELETE", "/spaces/x"),
    ("GET", "/spaces/x/members"),
    ("PUT", "/spaces/x/members/y"),
    ("DELETE", "/spaces/x/members/y"),
]
NOW = int(time.time())
SECRET = "a secret of more than thirty-two bytes"


def relative(claims: dict[str, Any]) -> str:
    """Claims as a test's name, which must not hold the time: several processes collect the tests."""
    near = {name: value for name, value in claims.items() if isinstance(value, int) and abs(value - NOW) < 100_000}
    return str({**claims, **{name: f"now{value - NOW:+d}" for name, value in near.items()}})


GOOD = {"sub": "alice", "exp": NOW + 3600, "aud": "syncd", "iss": "https://id.example"}
KEY = Ed25519PrivateKey.generate()
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def refused(http: httpx.Client, authorization: str | None) -> None:
    for method, path in PROTECTED:
        headers = {} if authorization is None else {"authorization": authorization}
        answer = http.request(method, path, headers=headers, json={} if method in ("POST", "PUT") else None)
        assert answer.status_code == 401, (method, path, answer.text)
        assert answer.json()["code"] == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.fixture(scope="module")
def secret(server: Server) -> str:
    return (server.data_dir / "jwt_secret").read_text().strip()


def test_without_a_token_nobody_gets_in(http: httpx.Client) -> None:
    refused(http, None)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer  x", "Basic YTpi", "Bearer x", "Bearer a.b.c", "Bearer ..", "Bearer " + "x" * 20_000],
)
def test_what_is_no_token_is_refused(http: httpx.Client, header: str) -> None:
    refused(http, header)


def test_a_token_that_is_too_large_is_told_so(http: httpx.Client, server: Server) -> None:
    fits = large(server, MAX_TOKEN)
    assert http.get("/spaces", headers={"authorization": f"Bearer {fits}"}).status_code == 200
    for size in (MAX_TOKEN + 1, 60_000):
        token = large(server, size)
        for method, path in PROTECTED:
            answer = http.request(method, path, headers={"authorization": f"Bearer {token}"})
            assert (answer.status_code, answer.json()["code"]) == (401, "token_too_large"), answer.text
            assert f"{len(token)} bytes" in answer.json()["detail"]
            assert token[:40] not in answer.text


async def test_a_token_that_is_too_large_is_told_so_on_a_socket(server: Server) -> None:
    token = large(server, MAX_TOKEN + 1)
    async with await opened(server) as socket:
        await socket.send({"type": "auth", "token": token, "clientId": "c1"})
        assert await socket.ends() == 4401
        assert socket.reason.startswith(f"The token has {len(token)} bytes")


def large(server: Server, size: int) -> str:
    """A token of that size, or one or two bytes more where none of that size can be."""
    for more in range(size):
        token = server.token("alice", [{"id": "x" * (size * 3 // 4 + more - 400), "role": "writer"}])
        if len(token) >= size:
            return token
    raise AssertionError


def test_a_token_in_the_query_or_without_its_scheme_is_refused(http: httpx.Client, server: Server) -> None:
    token = server.token("alice")
    for query in ("token", "access_token", "authorization", "jwt"):
        assert http.get("/sync/app/pull", params={query: token}).status_code == 401
    refused(http, token)
    assert http.get("/spaces", headers={"authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "alice", "exp": NOW - 60},
        {"sub": "alice"},
        {"sub": "alice", "exp": "soon"},
        {"sub": "alice", "exp": None},
        {"sub": "alice", "exp": -1},
        {"exp": NOW + 3600},
        {"sub": "", "exp": NOW + 3600},
        {"sub": 7, "exp": NOW + 3600},
        {"sub": None, "exp": NOW + 3600},
        {"sub": "a\nb", "exp": NOW + 3600},
        {"sub": "x" * 256, "exp": NOW + 3600},
        {"sub": "alice", "exp": NOW + 36_000, "nbf": NOW + 18_000},
        {"sub": "alice", "exp": 1e400},
        {"sub": "alice", "exp": 10**400},
        {"sub": "alice", "exp": NOW + 3600, "iat": -(10**400)},
    ],
    ids=relative,
)
def test_claims_that_cannot_be_believed_are_refused(http: httpx.Client, secret: str, claims: dict[str, Any]) -> None:
    payload = jwt.api_jws.encode(json.dumps(claims).encode(), secret, algorithm="HS256")
    refused(http, f"Bearer {payload}")


@pytest.mark.parametrize("user", [" ann", "ann ", "an\ufe0fn", "an\u00a0n", "a\u200bnn", "\u202eann", "ann\u2069"])
def test_a_user_who_looks_like_another_is_refused(http: httpx.Client, secret: str, server: Server, user: str) -> None:
    refused(http, f"Bearer {jwt.encode({'sub': user, 'exp': NOW + 3600}, secret, algorithm='HS256')}")
    headers = {"authorization": f"Bearer {server.token('alice')}"}
    space = http.post("/spaces", json={"name": "seen"}, headers=headers).json()["id"]
    answer = http.put(f"/spaces/{space}/members/{quote(user)}", json={"role": "reader"}, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/userId")
    answer = http.post("/spaces", json={"name": "seen", "id": f"{user}\u200f"}, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/id")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": NOW - 60}, "expired"),
        ({"nbf": NOW + 18_000}, "not_yet"),
        ({"iat": NOW + 18_000}, "not_yet"),
        ({"aud": "another"}, "wrong_audience"),
        ({"aud": None}, "wrong_audience"),
        ({"iss": "https://evil.example"}, "wrong_issuer"),
    ],
    ids=lambda one: relative(one) if isinstance(one, dict) else one,
)
def test_a_refusal_says_why(keyed: httpx.Client, log: Path, change: dict[str, Any], reason: str) -> None:
    claims = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    before = log.read_text().count(f"reason={reason}")
    told(keyed, jwt.encode(claims, KEY, algorithm="EdDSA"), reason)
    assert log.read_text().count(f"reason={reason}") == before + 1
    assert GOOD["sub"] not in log.read_text()


def test_of_claims_it_tells_nobody_who_cannot_sign(keyed: httpx.Client) -> None:
    """Who has found an old token, and changed it, learns no more than that."""
    another = Ed25519PrivateKey.generate()
    for change in ({}, {"exp": NOW - 60}, {"aud": "another"}):
        told(keyed, jwt.encode({**GOOD, **change}, another, algorithm="EdDSA"), "bad_signature")
    told(keyed, jwt.encode(GOOD, "x" * 32, algorithm="HS256"), "unknown_key")
    told(keyed, "a.b.c", None)


def told(http: httpx.Client, token: str, reason: str | None) -> None:
    answer = http.get("/spaces", headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"], answer.json().get("reason")) == (401, "unauthorized", reason)


def test_another_secret_another_algorithm_and_none_are_refused(http: httpx.Client, secret: str) -> None:
    good = {"sub": "alice", "exp": NOW + 3600}
    for key, algorithm in (("x" * 32, "HS256"), (secret * 2, "HS512"), (secret * 2, "HS384"), ("", "none")):
        refused(http, f"Bearer {jwt.encode(good, key or None, algorithm=algorithm)}")
    head, body, mark = jwt.encode(good, secret, algorithm="HS256").split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    bob = base64.urlsafe_b64encode(json.dumps({**good, "sub": "bob"}).encode()).rstrip(b"=").decode()
    for token in (
        f"{none}.{body}.",
        f"{none}.{body}.{mark}",
        f"{head}.{bob}.{mark}",
        f"{head}.{body}.",
        f"{head}.{body}.AAAA",
    ):
        refused(http, f"Bearer {token}")


def test_an_expired_token_is_refused_although_it_was_good_before(http: httpx.Client, server: Server) -> None:
    for _ in range(20):  # expired four seconds ago, of the five that are forgiven: a busy machine may be too late
        token = server.token("alice", ttl=-4)
        headers = {"authorization": f"Bearer {token}"}
        if http.get("/spaces", headers=headers).status_code == 200:
            break
    else:
        raise AssertionError("no token was good before")
    deadline = time.monotonic() + 60
    while http.get("/spaces", headers=headers).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    refused(http, f"Bearer {token}")


def test_a_user_of_any_name_has_a_personal_space(device: Callable[..., Device]) -> None:
    for user in (unique("x") + "y" * 230, unique("é,/ %"), unique("_personal:")):
        writer = device(user)
        writer.write(edit("r", x=1))
        assert writer.pull()["serverChanges"][0]["spaceId"] == f"_personal:{user}"
        writer.write({**edit("q", x=1), "spaceId": f"_personal:{user}"})


@pytest.fixture(scope="module")
def keyed(workspace: Path, server: Server) -> Iterator[httpx.Client]:
    """A server that knows a public key, an issuer and an audience."""
    pem = workspace / "public.pem"
    pem.write_bytes(PEM)
    settings = {
        "database_url": server.runtime_dsn,
        "jwt_public_key": pem,
        "jwt_audience": "syncd",
        "jwt_issuer": GOOD["iss"],
    }
    with Server(workspace / "keyed", settings=settings) as running, httpx.Client(base_url=running.url) as client:
        yield client


@pytest.fixture
def log(workspace: Path, keyed: httpx.Client) -> Path:
    """What that server logs."""
    return workspace / "keyed.log"


def test_its_own_tokens_get_in(keyed: httpx.Client) -> None:
    token = jwt.encode(GOOD, KEY, algorithm="EdDSA")
    assert keyed.get("/spaces", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_the_public_key_is_no_secret(keyed: httpx.Client) -> None:
    def part(value: Any) -> bytes:
        return base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).rstrip(b"=")

    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    for key in (PEM, PEM.strip(), PEM.decode().replace("\n", "\\n").encode()):
        signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(GOOD)
        refused(keyed, f"Bearer {(signed + b'.' + part(hmac.sign(signed, key))).decode()}")


@pytest.mark.parametrize(
    "change",
    [{"aud": "another"}, {"aud": None}, {"iss": "https://evil.example"}, {"iss": None}, {"exp": NOW - 60}],
    ids=relative,
)
def test_a_foreign_audience_or_issuer_is_refused(keyed: httpx.Client, change: dict[str, Any]) -> None:
    claims = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    refused(keyed, f"Bearer {jwt.encode(claims, KEY, algorithm='EdDSA')}")


def test_another_key_is_refused(keyed: httpx.Client, server: Server) -> None:
    refused(keyed, f"Bearer {jwt.encode(GOOD, Ed25519PrivateKey.generate(), algorithm='EdDSA')}")
    refused(keyed, f"Bearer {server.token('alice')}")


EC, RSA = generate_private_key(SECP256R1()), rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def open_to_all(workspace: Path, server: Server) -> Iterator[dict[str, httpx.Client]]:
    """Servers by algorithm that know a key, and neither an issuer nor an audience."""
    with ExitStack() as stack:
        clients = {}
        for algorithm, key in (("HS256", None), ("EdDSA", KEY), ("ES256", EC), ("RS256", RSA)):
            settings: dict[str, Any] = {"database_url": server.runtime_dsn, "jwt_secret": SECRET}
            if key is not None:
                pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
                settings = {"database_url": server.runtime_dsn, "jwt_public_key": pem.replace("\n", "\\n")}
            running = stack.enter_context(Server(workspace / f"open-{algorithm}", settings=settings))
            clients[algorithm] = stack.enter_context(httpx.Client(base_url=running.url))
        yield clients


@pytest.mark.parametrize(
    "claims", [{"aud": "app"}, {"aud": ["app", "web"]}, {"iss": "https://id.example"}, {}], ids=str
)
@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA", "ES256", "RS256"])
def test_where_no_audience_and_no_issuer_are_set_a_token_may_have_any(
    open_to_all: dict[str, httpx.Client], algorithm: str, claims: dict[str, Any]
) -> None:
    keys: dict[str, Any] = {"HS256": SECRET, "EdDSA": KEY, "ES256": EC, "RS256": RSA}
    for expires, status in ((NOW + 3600, 200), (NOW - 60, 401)):
        token = jwt.encode({"sub": "alice", "exp": expires, **claims}, keys[algorithm], algorithm=algorithm)
        answer = open_to_all[algorithm].get("/spaces", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == status, answer.text
