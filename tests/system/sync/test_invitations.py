"""Who is in which space by whose hand: invitations, blocks, bounds that hold whoever asks, and ids that come again."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from syncd.core.errors import MembershipsUnavailable
from syncd.edge.authenticator import Authenticator
from syncd.edge.tokens import Tokens
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.socket_device import Socket, opened
from tests.support.wire import Device, at, edit, unique
from tests.system.transfer.test_backup import signed

Make = Callable[..., Device]
BOUNDS = {
    "max_spaces_owned": 2, "max_spaces_joined": 3, "max_spaces_added": 2, "spaces_per_hour": 4, "members_per_hour": 3,
    "legacy_spaces": "own",
}  # fmt: skip


def _serving(folder: Path, **settings: Any) -> Iterator[tuple[Server, Make]]:
    with Server(folder, settings=settings) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        yield server, lambda user, client="c1", **more: Device(http, server, user, client, **more)


@pytest.fixture(scope="module")
def asking_server(workspace: Path) -> Iterator[tuple[Server, Make]]:
    """A server where whoever is added is asked, and its devices."""
    yield from _serving(workspace / "invitations-asking", invitations="ask")


@pytest.fixture(scope="module")
def asking(asking_server: tuple[Server, Make]) -> Make:
    """Its devices."""
    return asking_server[1]


@pytest.fixture(scope="module")
def bounded(workspace: Path) -> Iterator[tuple[Server, Make]]:
    """A server with small bounds, and its devices."""
    yield from _serving(workspace / "invitations-bounded", **BOUNDS)


def put(owner: Device, space: str, user: str, role: str = "writer") -> httpx.Response:
    return owner.request("PUT", f"/spaces/{space}/members/{user}", json={"role": role})


def make_space(owner: Device, **body: Any) -> httpx.Response:
    return owner.request("POST", "/spaces", json={"name": "Space", **body})


def spaces_of(device: Device) -> list[str]:
    return [space["id"] for space in device.request("GET", "/spaces").json()["spaces"]]


def invitations(device: Device) -> list[Any]:
    answer = device.request("GET", "/invitations")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["invitations"])


def imported(owner: Device, space: str, *others: str) -> httpx.Response:
    """An import over HTTP of a space with these members."""
    roles = {owner.user: "owner", **dict.fromkeys(others, "writer")}
    members = [{"userId": user, "role": role, "joinedAt": at(0)} for user, role in roles.items()]
    spaces = [{"id": space, "name": "Space", "createdAt": at(0), "members": members}]
    headers = {"content-type": "application/x-ndjson"}
    return owner.request("POST", "/backup/import", content=signed([], spaces=spaces), headers=headers)


def told(socket: Socket, what: str, space: str) -> int:
    """How often a socket was told that a space was joined or left."""
    return len([frame for frame in socket.all("changes") if space in frame["spaces"][what]])


def refused(answer: httpx.Response, status: int, code: str) -> Any:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return answer.json()


class TestAsking:
    @pytest.fixture
    def invited(self, asking: Make) -> tuple[Device, Device, str]:
        """An owner of a space with a record in it, and who is invited there as a writer."""
        owner, guest = asking(unique("owner")), asking(unique("guest"))
        space = owner.create(unique("space"))
        owner.write({**edit("r", secret="canary"), "spaceId": space})
        answer = put(owner, space, guest.user)
        assert answer.status_code == 202, answer.text
        said = answer.json()
        assert {**said, "invitedAt": ""} == {
            "userId": guest.user, "role": "writer", "invitedBy": owner.user, "invitedAt": "",
        }  # fmt: skip
        return owner, guest, space

    def test_an_invitation_shows_the_space_s_name_and_gives_nothing(self, invited: Any) -> None:
        owner, guest, space = invited
        [found] = invitations(guest)
        assert {**found, "invitedAt": ""} == {
            "spaceId": space, "name": space, "role": "writer", "invitedBy": owner.user, "invitedAt": "",
        }  # fmt: skip
        assert space not in spaces_of(guest)
        for answer in (guest.ask(), guest.ask(history=1), guest.ask(collection="t"), guest.send(pull=True)):
            assert space not in answer.text
            assert "canary" not in answer.text
        for path in (f"/spaces/{space}", f"/spaces/{space}/members", f"/sync/app/spaces/{space}/at"):
            refused(guest.request("GET", path), 404, "space_not_found")
        [result] = guest.push({**edit("w", x=1), "spaceId": space})["results"]
        assert result["code"] == "space_not_found"
        refused(put(guest, space, guest.user, "owner"), 404, "space_not_found")

    async def test_open_sockets_hear_that_one_came_and_that_it_ended(self, asking_server: tuple[Server, Make]) -> None:
        server, make = asking_server
        owner, guest = make(unique("owner")), make(unique("guest"))
        space = owner.create(unique("space"))
        async with await opened(server) as socket, await opened(server) as old, await opened(server) as other:
            await socket.auth(guest.user, protocol=1)
            await old.auth(guest.user)
            await other.auth(owner.user, protocol=1)
            endings: list[Callable[[], Any]] = [
                lambda: guest.request("DELETE", f"/invitations/{space}"),
                lambda: owner.request("DELETE", f"/spaces/{space}/members/{guest.user}"),
                lambda: guest.request("PUT", f"/blocks/{owner.user}"),
            ]
            for end in endings:
                assert put(owner, space, guest.user).status_code == 202
                assert await socket.next("invitations") == {"type": "invitations"}
                assert [found["spaceId"] for found in invitations(guest)] == [space]
                assert end().status_code == 204
                await socket.next("invitations")
                assert invitations(guest) == []
            await old.fence()
            await other.fence()
            assert old.all("invitations") == other.all("invitations") == []

    def test_accepted_it_is_a_membership_and_accepting_again_is_done(self, invited: Any) -> None:
        owner, guest, space = invited
        since = guest.drain()[1]
        for _ in range(2):
            answer = guest.request("POST", f"/invitations/{space}/accept")
            assert answer.status_code == 200, answer.text
            assert (answer.json()["id"], answer.json()["role"]) == (space, "writer")
        page = guest.pull(since)
        assert page["spaces"]["joined"] == [space]
        assert [change["fields"]["secret"]["value"] for change in page["serverChanges"]] == ["canary"]
        assert invitations(guest) == []
        members = owner.request("GET", f"/spaces/{space}/members").json()
        assert {m["userId"]: m["role"] for m in members["members"]} == {owner.user: "owner", guest.user: "writer"}
        assert "invited" not in members
        assert put(owner, space, guest.user, "reader").status_code == 200  # a role is the owner's to change

    def test_declined_or_withdrawn_it_is_gone(self, invited: Any) -> None:
        owner, guest, space = invited
        assert guest.request("DELETE", f"/invitations/{space}").status_code == 204
        refused(guest.request("POST", f"/invitations/{space}/accept"), 404, "invitation_not_found")
        refused(guest.request("DELETE", f"/invitations/{space}"), 404, "invitation_not_found")
        assert put(owner, space, guest.user).status_code == 202
        owner.remove(space, guest.user)
        assert invitations(guest) == []
        refused(guest.request("POST", f"/invitations/{space}/accept"), 404, "invitation_not_found")
        refused(owner.request("DELETE", f"/spaces/{space}/members/{guest.user}"), 404, "not_found")

    def test_owners_see_who_is_invited_and_others_do_not(self, invited: Any, asking: Make) -> None:
        owner, guest, space = invited
        reader = asking(unique("reader"))
        assert put(owner, space, reader.user, "reader").status_code == 202
        assert put(owner, space, guest.user, "reader").status_code == 202  # another role, one invitation
        assert reader.request("POST", f"/invitations/{space}/accept").status_code == 200
        [shown] = owner.request("GET", f"/spaces/{space}/members").json()["invited"]
        assert (shown["userId"], shown["role"], shown["invitedBy"]) == (guest.user, "reader", owner.user)
        assert "invited" not in reader.request("GET", f"/spaces/{space}/members").json()
        refused(reader.request("DELETE", f"/spaces/{space}/members/{guest.user}"), 403, "forbidden")
        assert [found["role"] for found in invitations(guest)] == ["reader"]

    def test_with_its_space_it_ends(self, invited: Any) -> None:
        owner, guest, space = invited
        assert owner.request("DELETE", f"/spaces/{space}").status_code == 204
        assert invitations(guest) == []
        refused(guest.request("POST", f"/invitations/{space}/accept"), 404, "invitation_not_found")

    def test_a_space_that_its_owner_imports_asks_its_members_too(self, asking: Make) -> None:
        owner, guest, space = asking(unique("owner")), asking(unique("guest")), unique("space")
        assert imported(owner, space, guest.user).json()["spaces"]["created"] == [space]
        assert space not in spaces_of(guest)
        assert [found["spaceId"] for found in invitations(guest)] == [space]


def test_a_blocked_user_neither_adds_nor_invites_and_is_not_told(device: Make, asking: Make) -> None:
    for make in (device, asking):
        owner, other, guest = make(unique("owner")), make(unique("other")), make(unique("guest"))
        first, second, theirs = owner.create(unique("a")), owner.create(unique("b")), other.create(unique("c"))
        put(owner, first, guest.user)
        for _ in range(2):
            assert guest.request("PUT", f"/blocks/{owner.user}").status_code == 204
        assert invitations(guest) == []
        assert [found["userId"] for found in guest.request("GET", "/blocks").json()["blocks"]] == [owner.user]
        told = refused(put(owner, second, guest.user), 409, "member_refused")
        assert "block" not in str(told)
        assert put(other, theirs, guest.user).status_code == (200 if make is device else 202)
        assert second not in spaces_of(guest)
        assert guest.request("DELETE", f"/blocks/{owner.user}").status_code == 204
        assert put(owner, second, guest.user).status_code == (200 if make is device else 202)
        refused(guest.request("PUT", f"/blocks/{guest.user}"), 400, "invalid_request")


class TestBounds:
    def test_spaces_that_one_user_owns(self, bounded: Any) -> None:
        owner = bounded[1](unique("owner"))
        spaces = [owner.create(unique("s")) for _ in range(2)]
        told = refused(make_space(owner), 409, "limit_reached")
        assert "(2)" in told["detail"]
        assert make_space(owner, id=spaces[0], name=spaces[0]).status_code == 201  # a repeated request makes none
        owner.request("DELETE", f"/spaces/{spaces[0]}")
        assert make_space(owner).status_code == 201

    def test_spaces_that_one_user_makes_in_an_hour(self, bounded: Any) -> None:
        server, make = bounded
        owner = make(unique("owner"))
        for _ in range(4):
            assert owner.request("DELETE", f"/spaces/{owner.create(unique('s'))}").status_code == 204
        answer = make_space(owner)
        assert "(4)" in refused(answer, 429, "too_many_requests")["detail"]
        assert 800 < int(answer.headers["retry-after"]) <= 900
        _pass(server, owner.user, "made", 900)
        assert make_space(owner).status_code == 201
        refused(make_space(owner), 429, "too_many_requests")

    def test_members_that_one_user_adds_in_an_hour(self, bounded: Any) -> None:
        server, make = bounded
        owner = make(unique("owner"))
        space, friend = owner.create(unique("s")), unique("friend")
        for _ in range(3):
            assert put(owner, space, friend).status_code == 200
            assert put(owner, space, friend, "reader").status_code == 200  # a role is no member more
            owner.remove(space, friend)
        answer = put(owner, space, friend)
        assert "(3)" in refused(answer, 429, "too_many_requests")["detail"]
        assert 1100 < int(answer.headers["retry-after"]) <= 1200
        _pass(server, owner.user, "members", 1200)
        assert put(owner, space, friend).status_code == 200

    def test_spaces_that_others_put_one_user_into(self, bounded: Any) -> None:
        make = bounded[1]
        owners, victim = [make(unique("owner")) for _ in range(3)], make(unique("victim"))
        spaces = [owner.create(unique("s")) for owner in owners]
        assert [put(o, s, victim.user).status_code for o, s in zip(owners, spaces, strict=True)] == [200, 200, 409]
        refused(put(owners[2], spaces[2], victim.user), 409, "member_refused")
        assert [make_space(victim).status_code for _ in range(3)] == [201, 201, 409]  # what is theirs is theirs
        victim.remove(spaces[0], victim.user)
        assert put(owners[2], spaces[2], victim.user).status_code == 200

    def test_requests_at_the_same_time_are_counted_one_after_the_other(self, bounded: Any) -> None:
        owner = bounded[1](unique("owner"))
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: make_space(owner).status_code, range(4)))
        assert sorted(answers) == [201, 201, 409, 409]

    def test_a_promotion_by_others_is_within_what_a_user_owns(self, bounded: Any) -> None:
        """Who is made an owner by others owns that by their hands, and goes on making spaces."""
        make = bounded[1]
        owner, friend = make(unique("owner")), make(unique("friend"))
        space = owner.create(unique("s"))
        assert put(owner, space, friend.user, "reader").status_code == 200
        assert put(owner, space, friend.user, "owner").status_code == 200
        assert [make_space(friend).status_code for _ in range(3)] == [201, 201, 409]

    def test_an_import_over_http_is_within_them(self, bounded: Any) -> None:
        make = bounded[1]
        owner, space, friends = make(unique("owner")), unique("s"), [unique("friend") for _ in range(4)]
        refused(imported(owner, space, *friends), 429, "too_many_requests")
        assert space not in spaces_of(owner)
        guest = make(friends[0])
        guest.request("PUT", f"/blocks/{owner.user}")
        assert imported(owner, space, *friends[:3]).json()["spaces"]["created"] == [space]
        members = owner.request("GET", f"/spaces/{space}/members").json()["members"]
        assert {member["userId"] for member in members} == {owner.user, *friends[1:3]}
        assert make_space(owner).status_code == 201
        assert imported(owner, unique("s")).json()["spaces"]["created"] == []  # two are owned
        assert imported(owner, space, *friends).json()["spaces"] == {"created": [], "missing": []}

    def test_a_push_of_the_first_generation_makes_as_many_and_what_is_beyond_is_held(self, bounded: Any) -> None:
        old = bounded[1](unique("old"), legacy=True)
        names = [unique("garden") for _ in range(3)]
        results = old.push(*({**edit(f"r{i}", n=i), "spaceId": name} for i, name in enumerate(names)))["results"]
        assert sorted(result["status"] for result in results) == ["applied", "applied", "rejected"]
        assert len(set(spaces_of(old)) & set(names)) == 2


async def test_a_list_from_outside_has_a_bound_too() -> None:
    """It is refused whole: cut, it would look as if its user had left spaces."""
    secret, now = "s" * 32, int(time.time())
    authenticator = Authenticator(Tokens(secret=secret), claims=True, most=2)

    def bearer(many: int) -> bytes:
        listed = [{"id": f"s{i}", "role": "reader"} for i in range(many)]
        return f"Bearer {jwt.encode({'sub': 'ann', 'iat': now, 'exp': now + 60, 'spaces': listed}, secret)}".encode()

    caller = (await authenticator.authenticate(bearer(2)))[0]
    assert caller.external is not None
    assert len(caller.external.spaces) == 2
    with pytest.raises(MembershipsUnavailable) as raised:
        await authenticator.authenticate(bearer(3))
    assert raised.value.code == "too_many_spaces"


def _pass(server: Server, user: str, what: str, seconds: int) -> None:
    """As if so much time had passed."""
    query = f"""
        UPDATE syncd.sync_allowances a SET until = a.until - interval '{seconds} s' FROM syncd.sync_names n
        WHERE n.name = '{user}' AND a.user_no = n.name_no AND a.what = '{what}' RETURNING a.what"""
    assert asyncio.run(run(server.owner_dsn, query)) == [(what,)]


class TestIds:
    def test_without_one_the_server_makes_a_uuid_of_the_time(self, device: Make) -> None:
        owner = device(unique("owner"))
        first, second = (make_space(owner).json()["id"] for _ in range(2))
        assert uuid.UUID(first).version == uuid.UUID(second).version == 7
        assert first != second

    async def test_made_again_while_they_listen_each_is_told_what_is_theirs(self, server: Server, device: Make) -> None:
        """The owner is in both, a member is added again, and another one hears of the end alone."""
        owner, member, former = (device(unique(name), app="notes") for name in ("owner", "member", "former"))
        space = owner.create(unique("team"))
        for other in (member, former):
            owner.member(space, other.user)
        owner.write({**edit("old", n=1), "spaceId": space})
        sockets = [await opened(server) for _ in range(3)]
        try:
            for socket, who in zip(sockets, (owner, member, former), strict=True):
                await socket.auth(who.user, "listener", protocol=1)
                await socket.subscribe()
                await socket.brings("old")
            # In one look of the hub's, or in two: the id is another space's by then.
            assert owner.request("DELETE", f"/spaces/{space}").status_code == 204
            assert make_space(owner, id=space).status_code == 201
            owner.member(space, member.user)
            owner.write({**edit("new", n=2), "spaceId": space})
            for socket in sockets:
                await socket.until(lambda socket=socket: told(socket, "left", space) == 1)
            for socket in sockets[:2]:
                await socket.brings("new")
                assert told(socket, "joined", space) == 2
            # And what follows comes to those two, as it does to who lives in one space.
            owner.write({**edit("next", n=3), "spaceId": space})
            for socket in sockets[:2]:
                await socket.brings("next")
            await sockets[2].fence()
            assert [change["id"] for change in sockets[2].changes()] == ["old"]
            assert told(sockets[2], "joined", space) == 1
            owner.remove(space, member.user)
            await sockets[1].until(lambda: told(sockets[1], "left", space) == 2)
            owner.write({**edit("last", n=4), "spaceId": space})
            await sockets[0].brings("last")
            await sockets[1].fence()
            assert "last" not in [change["id"] for change in sockets[1].changes()]
        finally:
            for socket in sockets:
                await socket.close()

    def test_a_deleted_one_is_made_again_by_who_owned_it_as_another_space(self, device: Make) -> None:
        """Devices hear that the old one is gone and that there is a new one, which has nothing of the old one."""
        owner, member, other = (device(unique(name)) for name in ("owner", "member", "other"))
        space = owner.create(unique("team"))
        owner.member(space, member.user, "owner")
        owner.write({**edit("old", n=1), "spaceId": space})
        cursors = {who: who.drain()[1] for who in (owner, member)}
        assert owner.request("DELETE", f"/spaces/{space}").status_code == 204
        refused(make_space(other, id=space), 409, "conflict")
        assert make_space(member, id=space, name="Again").status_code == 201  # an owner of it, too
        member.write({**edit("new", n=2), "spaceId": space})
        assert put(member, space, owner.user).status_code == 200
        for who, since in cursors.items():
            page = who.pull(since)
            assert page["spaces"] == {"joined": [space], "left": [space]}
            assert [change["id"] for change in page["serverChanges"]] == ["new"]
            assert [change["id"] for change in who.drain()[0] if change["spaceId"] == space] == ["new"]
        changes = owner.request("GET", f"/sync/app/spaces/{space}/at").json()["records"]
        assert [record["id"] for record in changes] == ["new"]
        # And once more: who was away all the time hears of one that is gone, and of one that is there.
        assert member.request("DELETE", f"/spaces/{space}").status_code == 204
        assert make_space(member, id=space, name="Third").status_code == 201
        page = member.pull(cursors[member])
        assert page["spaces"] == {"joined": [space], "left": [space]}
        assert page["serverChanges"] == []
        refused(make_space(owner, id=space), 409, "conflict")
