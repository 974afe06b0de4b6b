"""Invitations by a link: who may make one, what it makes of its bearer, and what it tells of a space: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.direct import run
from tests.support.harness import Server
from tests.support.socket_device import opened
from tests.support.wire import Device, edit, unique
from tests.system.sync.test_invitations import BOUNDS, invitations, put, refused, spaces_of, told

Make = Callable[..., Device]
NO_LINK = "There is no such invitation, or it was withdrawn. Ask an owner of the space to invite you."


@pytest.fixture(scope="module")
def bounded(workspace: Path) -> Iterator[Make]:
    """The devices of a server with small bounds."""
    settings = {**BOUNDS, "invitations": "ask"}
    with (
        Server(workspace / "links-bounded", settings=settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        yield lambda user, client="c1", **more: Device(http, server, user, client, **more)


@pytest.fixture
def shared(device: Make) -> tuple[Device, Device, str]:
    """An owner of a space with a record in it, somebody else, and the space."""
    owner, guest = device(unique("owner")), device(unique("guest"))
    space = owner.create(unique("space"))
    owner.write({**edit("r", secret="canary"), "spaceId": space})
    return owner, guest, space


def link(owner: Device, space: str, **wanted: Any) -> Any:
    answer = owner.request("POST", f"/spaces/{space}/invitations", json={"role": "writer", **wanted})
    assert answer.status_code == 201, answer.text
    return answer.json()


def join(guest: Device, token: str) -> httpx.Response:
    return guest.request("POST", "/invitations", json={"token": token})


def links(owner: Device, space: str) -> list[Any]:
    answer = owner.request("GET", f"/spaces/{space}/invitations")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["invitations"])


def roles(owner: Device, space: str) -> dict[str, str]:
    members = owner.request("GET", f"/spaces/{space}/members").json()["members"]
    return {member["userId"]: member["role"] for member in members}


def audited(owner: Device, space: str, *what: str) -> list[tuple[Any, ...]]:
    entries = owner.request("GET", f"/spaces/{space}/audit").json()["audit"]
    return [(one["what"], one.get("actorId"), one["detail"]) for one in entries if one["what"] in what]


def answered(answer: httpx.Response) -> tuple[Any, ...]:
    """All that an answer tells, but for the instant."""
    return answer.status_code, answer.text, {k: v for k, v in answer.headers.items() if k != "date"}


class TestLinks:
    def test_it_makes_its_bearer_a_member_and_again_is_done(self, shared: Any, device: Make) -> None:
        owner, guest, space = shared
        made = link(owner, space)
        assert made["token"].startswith("syncdl_")
        assert (made["role"], made["uses"], made["used"], made["createdBy"]) == ("writer", 1, 0, owner.user)
        lives = datetime.fromisoformat(made["expiresAt"]) - datetime.fromisoformat(made["createdAt"])
        assert lives == timedelta(days=7)
        assert links(owner, space) == [{name: value for name, value in made.items() if name != "token"}]

        since = guest.drain()[1]
        for _ in range(3):
            answer = join(guest, made["token"])
            assert answer.status_code == 200, answer.text
            assert (answer.json()["id"], answer.json()["name"], answer.json()["role"]) == (space, space, "writer")
        page = guest.pull(since)
        assert page["spaces"]["joined"] == [space]
        assert [change["fields"]["secret"]["value"] for change in page["serverChanges"]] == ["canary"]
        assert roles(owner, space) == {owner.user: "owner", guest.user: "writer"}
        assert links(owner, space) == []
        refused(join(device(unique("late")), made["token"]), 404, "invitation_not_found")
        about = {"id": made["id"], "role": "writer"}
        assert audited(owner, space, "link_made", "joined_by_link") == [
            ("link_made", owner.user, {**about, "uses": 1, "expiresIn": 604800}),
            ("joined_by_link", guest.user, about),
        ]

    async def test_open_sockets_hear_that_they_joined(self, server: Server, shared: Any) -> None:
        owner, guest, space = shared
        async with await opened(server) as socket:
            await socket.auth(guest.user, protocol=1)
            await socket.subscribe()
            assert join(guest, link(owner, space)["token"]).status_code == 200
            await socket.until(lambda: told(socket, "joined", space) == 1)

    def test_a_member_keeps_another_role_and_uses_nothing_up(self, shared: Any) -> None:
        owner, guest, space = shared
        put(owner, space, guest.user, "reader")
        token = link(owner, space)["token"]
        for member, role in ((guest, "reader"), (owner, "owner")):
            assert join(member, token).json()["role"] == role
        assert roles(owner, space)[guest.user] == "reader"
        assert [one["used"] for one in links(owner, space)] == [0]

    def test_two_at_once_do_not_both_take_the_last_use(self, shared: Any, device: Make) -> None:
        owner, _, space = shared
        token = link(owner, space, uses=3)["token"]
        guests = [device(unique("guest")) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda guest: join(guest, token).status_code, guests))
        assert sorted(answers) == [200] * 3 + [404] * 5
        assert len(roles(owner, space)) == 4

    def test_a_user_who_asks_twice_at_once_uses_it_once(self, shared: Any) -> None:
        owner, guest, space = shared
        token = link(owner, space, uses=2)["token"]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda _: join(guest, token).status_code, range(4))) == [200] * 4
        assert [one["used"] for one in links(owner, space)] == [1]

    def test_owners_make_list_and_withdraw_them_and_nobody_else(self, shared: Any, device: Make) -> None:
        owner, guest, space = shared
        made = link(owner, space)
        path = f"/spaces/{space}/invitations"
        requests = [
            ("POST", path, {"json": {"role": "reader"}}),
            ("GET", path, {}),
            ("DELETE", f"{path}/{made['id']}", {}),
        ]
        for role, status, code in (("", 404, "space_not_found"), ("writer", 403, "forbidden")):
            if role:
                put(owner, space, guest.user, role)
            for method, where, more in requests:
                refused(guest.request(method, where, **more), status, code)
        personal = f"/spaces/_personal:{owner.user}/invitations"
        owner.write(edit("own", x=1))
        refused(owner.request("POST", personal, json={"role": "reader"}), 403, "forbidden")
        other = owner.create(unique("other"))
        refused(owner.request("DELETE", f"/spaces/{other}/invitations/{made['id']}"), 404, "invitation_not_found")
        assert owner.request(*requests[2][:2]).status_code == 204
        refused(owner.request(*requests[2][:2]), 404, "invitation_not_found")
        refused(join(device(unique("late")), made["token"]), 404, "invitation_not_found")
        assert audited(owner, space, "link_withdrawn") == [
            ("link_withdrawn", owner.user, {"id": made["id"], "role": "writer", "used": 0})
        ]

    def test_what_one_may_be_has_bounds(self, shared: Any, server: Server) -> None:
        owner, _, space = shared
        wrong: list[tuple[str, Any]] = [
            ("role", "owner"), ("role", None), ("uses", 0), ("uses", 1001), ("uses", 1.5), ("expiresIn", 0),
            ("expiresIn", 30 * 86400 + 1),
        ]  # fmt: skip
        for name, value in wrong:
            answer = owner.request("POST", f"/spaces/{space}/invitations", json={"role": "reader", name: value})
            assert refused(answer, 400, "invalid_request")["errors"][0]["pointer"] == f"/{name}"
        many = link(owner, space, uses=1000, expiresIn=30 * 86400)
        assert (many["uses"], many["expiresAt"] > many["createdAt"]) == (1000, True)
        for _ in range(99):
            link(owner, space)
        told = refused(
            owner.request("POST", f"/spaces/{space}/invitations", json={"role": "reader"}), 409, "limit_reached"
        )
        assert "(100)" in told["detail"]
        # Those that have ended make room, and their rows go.
        of = f"space_no = (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = '{space}')"
        past = "made_at = made_at - interval '30 days', expires_at = expires_at - interval '30 days'"
        asyncio.run(run(server.owner_dsn, f"UPDATE syncd.sync_links SET {past} WHERE {of}"))
        assert links(owner, space) == []
        link(owner, space)
        assert asyncio.run(run(server.owner_dsn, f"SELECT count(*) FROM syncd.sync_links WHERE {of}")) == [(1,)]

    def test_its_token_is_in_no_table_log_or_error(self, shared: Any, server: Server) -> None:
        owner, guest, space = shared
        token = link(owner, space)["token"]
        withdrawn = link(owner, space)
        owner.request("DELETE", f"/spaces/{space}/invitations/{withdrawn['id']}")
        said = [join(guest, withdrawn["token"]).text, join(guest, token).text]
        said.append(guest.request("POST", "/invitations", json={"token": [token]}).text)
        said.append(guest.request("POST", "/invitations", content=f'{{"token": "{token}'.encode()).text)
        said += [str(owner.request("GET", f"/spaces/{space}/{what}").json()) for what in ("audit", "invitations")]
        rows = "SELECT concat(l, encode(l.digest, 'escape')) FROM syncd.sync_links l"
        rows += " UNION ALL SELECT a::text FROM syncd.sync_audit a"
        said += [row[0] for row in asyncio.run(run(server.owner_dsn, rows))]
        said.append(server.log.read_text())
        for text in said:
            assert token[-20:] not in text
            assert withdrawn["token"][-20:] not in text


class TestRefusals:
    """Each is answered as a token that was never made."""

    def test_whatever_the_reason_it_is_one_answer(self, device: Make, server: Server) -> None:
        expected = answered(join(device(unique("guest")), "syncdl_never-made"))
        assert expected[0] == 404
        assert NO_LINK in expected[1]
        reasons = (
            self._used_up, self._ended, self._withdrawn, self._deleted, self._removed, self._blocked, self._blocking,
            self._of_an_owner_who_is_none, self._of_an_owner_who_left,
        )  # fmt: skip
        for reason in reasons:
            owner, guest, other = (device(unique(name)) for name in ("owner", "guest", "other"))
            space = owner.create(unique("space"))
            put(owner, space, other.user, "owner")
            made = link(owner, space)
            reason(owner, guest, other, space, made, server)
            assert answered(join(guest, made["token"])) == expected, reason
            assert space not in spaces_of(guest)

    def _used_up(self, owner: Device, guest: Device, other: Device, space: str, made: Any, server: Server) -> None:
        other.remove(space, other.user)
        assert join(other, made["token"]).status_code == 200

    def _ended(self, owner: Device, guest: Device, other: Device, space: str, made: Any, server: Server) -> None:
        query = f"UPDATE syncd.sync_links SET expires_at = clock_timestamp() WHERE link_id = '{made['id']}'"
        asyncio.run(run(server.owner_dsn, query))

    def _withdrawn(self, owner: Device, guest: Device, other: Device, space: str, made: Any, server: Server) -> None:
        assert other.request("DELETE", f"/spaces/{space}/invitations/{made['id']}").status_code == 204

    def _deleted(self, owner: Device, guest: Device, other: Device, space: str, made: Any, server: Server) -> None:
        assert owner.request("DELETE", f"/spaces/{space}").status_code == 204

    def _removed(self, owner: Device, guest: Device, other: Device, space: str, made: Any, server: Server) -> None:
        put(owner, space, guest.user)
        owner.remove(space, guest.user)

    def _blocked(self, owner: Device, guest: Device, other: Device, space: str, made: Any, server: Server) -> None:
        assert owner.request("PUT", f"/blocks/{guest.user}").status_code == 204

    def _blocking(self, owner: Device, guest: Device, other: Device, space: str, made: Any, server: Server) -> None:
        assert guest.request("PUT", f"/blocks/{owner.user}").status_code == 204

    def _of_an_owner_who_is_none(
        self, owner: Device, guest: Device, other: Device, space: str, made: Any, server: Server
    ) -> None:
        put(other, space, owner.user, "writer")
        put(other, space, owner.user, "owner")

    def _of_an_owner_who_left(
        self, owner: Device, guest: Device, other: Device, space: str, made: Any, server: Server
    ) -> None:
        owner.remove(space, owner.user)
        put(other, space, owner.user, "owner")

    def test_who_was_removed_comes_back_by_an_owner_and_who_left_by_the_link(self, shared: Any) -> None:
        owner, guest, space = shared
        token = link(owner, space, uses=5)["token"]
        for way in (f"/spaces/{space}/membership", f"/spaces/{space}/members/{guest.user}"):
            assert join(guest, token).status_code == 200
            assert guest.request("DELETE", way).status_code == 204
            refused(guest.request("DELETE", way), 404, "space_not_found")
        assert join(guest, token).status_code == 200
        owner.remove(space, guest.user)
        refused(join(guest, link(owner, space)["token"]), 404, "invitation_not_found")
        assert put(owner, space, guest.user).status_code == 200
        guest.remove(space, guest.user)
        assert join(guest, token).status_code == 200

    def test_who_leaves_first_or_was_only_invited_is_kept_out_too(self, shared: Any, device: Make) -> None:
        owner, guest, space = shared
        path = f"/spaces/{space}/members/{guest.user}"
        refused(owner.request("DELETE", path), 404, "not_found")
        token = link(owner, space, uses=5)["token"]
        assert join(guest, token).status_code == 200
        guest.remove(space, guest.user)
        for stranger in (unique("never-heard-of"), device(unique("elsewhere")).user):
            refused(owner.request("DELETE", f"/spaces/{space}/members/{stranger}"), 404, "not_found")
        for _ in range(2):
            assert owner.request("DELETE", path).status_code == 204
        refused(join(guest, token), 404, "invitation_not_found")
        assert put(owner, space, guest.user).status_code == 200

    def test_a_stranger_s_tokens_make_no_user(self, device: Make, server: Server) -> None:
        stranger = device(unique("stranger"))
        refused(join(stranger, "syncdl_no"), 404, "invitation_not_found")
        rows = f"SELECT count(*) FROM syncd.sync_names n WHERE n.name = '{stranger.user}'"
        assert asyncio.run(run(server.owner_dsn, rows)) == [(0,)]

    def test_what_is_no_token_is_malformed(self, device: Make) -> None:
        guest = device(unique("guest"))
        for body in ({}, {"token": ""}, {"token": 1}, {"token": "x" * 201}):
            refused(guest.request("POST", "/invitations", json=body), 400, "invalid_request")
        for method, path in (
            ("PUT", "/invitations"),
            ("PUT", "/spaces/s/invitations"),
            ("GET", "/spaces/s/membership"),
        ):
            refused(guest.request(method, path), 405, "method_not_allowed")


class TestBounds:
    def test_who_joins_counts_for_the_owner_of_the_link(self, bounded: Make) -> None:
        owner = bounded(unique("owner"))
        space = owner.create(unique("space"))
        token = link(owner, space, uses=10)["token"]
        assert put(owner, space, unique("invited")).status_code == 202
        assert [join(bounded(unique("guest")), token).status_code for _ in range(2)] == [200, 200]
        late = bounded(unique("late"))
        answer = join(late, token)
        assert "(3)" in refused(answer, 429, "too_many_requests")["detail"]
        assert 1100 < int(answer.headers["retry-after"]) <= 1200
        assert [one["used"] for one in links(owner, space)] == [2]
        assert spaces_of(late) == []

    def test_who_leaves_and_comes_back_uses_a_link_up_once(self, bounded: Make) -> None:
        owner, guest = bounded(unique("owner")), bounded(unique("guest"))
        space = owner.create(unique("space"))
        token = link(owner, space, uses=3)["token"]
        for _ in range(3):
            assert join(guest, token).status_code == 200
            guest.remove(space, guest.user)
        assert [one["used"] for one in links(owner, space)] == [1]
        answer = join(guest, token)
        assert "You joined" in refused(answer, 429, "too_many_requests")["detail"]
        assert [join(bounded(unique("guest")), token).status_code for _ in range(2)] == [200, 200]
        assert links(owner, space) == []

    def test_who_was_invited_and_withdrawn_does_not_come_by_a_link(self, bounded: Make) -> None:
        owner, guest = bounded(unique("owner")), bounded(unique("guest"))
        space = owner.create(unique("space"))
        token = link(owner, space)["token"]
        assert put(owner, space, guest.user).status_code == 202
        owner.remove(space, guest.user)
        refused(join(guest, token), 404, "invitation_not_found")

    def test_links_and_names_that_one_user_makes_in_an_hour(self, bounded: Make) -> None:
        owner = bounded(unique("owner"))
        space = owner.create(unique("space"))
        for _ in range(3):
            link(owner, space)
        answer = owner.request("POST", f"/spaces/{space}/invitations", json={"role": "reader"})
        assert "links" in refused(answer, 429, "too_many_requests")["detail"]
        for name in "abcd":
            assert owner.request("PATCH", f"/spaces/{space}", json={"name": name}).status_code == 200
        answer = owner.request("PATCH", f"/spaces/{space}", json={"name": "e"})
        assert "(4)" in refused(answer, 429, "too_many_requests")["detail"]
        assert owner.request("PATCH", f"/spaces/{space}", json={"name": "d"}).status_code == 200

    def test_who_is_in_as_many_as_may_be_joins_none(self, bounded: Make) -> None:
        owner, guest = bounded(unique("owner")), bounded(unique("guest"))
        tokens = [link(owner, owner.create(unique("space")))["token"] for _ in range(2)]
        other = bounded(unique("other"))
        tokens += [link(other, other.create(unique("space")))["token"] for _ in range(2)]
        assert [join(guest, token).status_code for token in tokens] == [200, 200, 200, 409]
        refused(join(guest, tokens[3]), 409, "limit_reached")

    def test_who_was_invited_and_comes_by_a_link_is_invited_no_more(self, bounded: Make) -> None:
        owner, guest = bounded(unique("owner")), bounded(unique("guest"))
        space = owner.create(unique("space"))
        assert put(owner, space, guest.user, "reader").status_code == 202
        assert join(guest, link(owner, space)["token"]).json()["role"] == "writer"
        assert invitations(guest) == []


class TestNames:
    def test_an_owner_gives_a_space_another_name(self, shared: Any) -> None:
        owner, guest, space = shared
        path = f"/spaces/{space}"
        refused(guest.request("PATCH", path, json={"name": "Hers"}), 404, "space_not_found")
        put(owner, space, guest.user, "writer")
        refused(guest.request("PATCH", path, json={"name": "Hers"}), 403, "forbidden")
        for _ in range(2):
            answer = owner.request("PATCH", path, json={"name": "Ours"})
            assert answer.status_code == 200
            assert {**answer.json(), "createdAt": ""} == {"id": space, "name": "Ours", "role": "owner", "createdAt": ""}
        assert guest.request("GET", path).json()["name"] == "Ours"
        assert audited(owner, space, "renamed") == [("renamed", owner.user, {})], "a name is a user's text"

    def test_a_name_that_cannot_be_is_refused_with_its_place(self, shared: Any) -> None:
        owner, _, space = shared
        for name in ("", "x" * 256, "a\nb"):
            answer = owner.request("PATCH", f"/spaces/{space}", json={"name": name})
            assert refused(answer, 400, "invalid_request")["errors"][0]["pointer"] == "/name"
        longest = "\U0001f600" * 255
        for name in (longest, "x"):
            assert owner.request("PATCH", f"/spaces/{space}", json={"name": name}).json()["name"] == name
        owner.write(edit("own", x=1))
        refused(owner.request("PATCH", f"/spaces/_personal:{owner.user}", json={"name": "x"}), 403, "forbidden")
        refused(owner.request("DELETE", f"/spaces/_personal:{owner.user}/membership"), 403, "forbidden")
