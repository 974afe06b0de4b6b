"""History and undo of the Python client with the real server."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from syncd_client import (
    HttpSender,
    Refused,
    Replica,
    RetryPolicy,
    history,
)

from syncd.protocol.page_token import read_bookmark
from tests.support.harness import Server
from tests.support.replicas import values
from tests.support.wire import ahead

Device = Callable[..., Replica]
UNIQUE = iter(range(1_000_000))


@pytest.fixture
def user() -> str:
    return f"history-user-{next(UNIQUE)}-{random.getrandbits(40):x}"


@pytest.fixture
def device(server: Server, tmp_path: Path, user: str) -> Iterator[Device]:
    """Opens devices of one user."""
    opened: list[Replica] = []

    def open_device(name: str = "one", **options: Any) -> Replica:
        given = {"app": "app", "url": server.url, "token": server.token(user), "durability": "normal"} | options
        opened.append(Replica(tmp_path / f"{name}.db", **given))
        return opened[-1]

    yield open_device
    for replica in opened:
        replica.close()


def test_a_records_changes_are_read_newest_first_in_pages(device: Device) -> None:
    one, two = device("one", actor={"by": "me"}, origin="agent", schema_version=2), device("two")
    for n in range(5):
        one.put("t", "r", {"x": n})
    one.sync()
    two.sync()
    two.patch("t", "r", {"y": 1})
    two.sync()
    found = list(history.changes(one, "t", "r", page=2))
    assert [change.seq for change in found] == [6, 5, 4, 3, 2, 1]
    assert {name: register.value for name, register in found[0].fields.items()} == {"y": 1}
    assert (found[0].client, found[0].origin) == (two.client_id, None)
    assert (found[1].client, found[1].origin, found[1].actor, found[1].schema_version) == (
        one.client_id, "agent", {"by": "me"}, 2,
    )  # fmt: skip
    assert found[1].fields["x"] == one.registers("t", "r")["x"]
    assert [change.fields["x"].value for change in found[1:]] == [4, 3, 2, 1, 0]


class Elsewhere(httpx2.HTTPTransport):
    """Asks for the next page of a listing as if this one were of a history that the database does not have."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        after = request.url.params.get("after")
        if after is not None:
            mark = read_bookmark(after)
            other = msgspec.structs.replace(mark, start=mark.start + 1)
            request.url = request.url.copy_set_param("after", other.text())
        return super().handle_request(request)


def test_a_listing_that_was_lost_is_said_to_be(device: Device) -> None:
    with httpx2.Client(transport=Elsewhere()) as http:
        one = device(send=HttpSender(http))
        for n in range(2):
            one.put("t", "r", {"x": n})
            one.put("t", f"s{n}", {"x": n})
        one.sync()
        for listing in (history.changes(one, "t", "r", page=1), history.space_at(one, page=1)):
            next(listing)
            with pytest.raises(Refused) as refused:
                next(listing)
            assert (refused.value.code, refused.value.status) == ("cursor_lost", 410)


def test_a_record_is_read_as_it_was(device: Device) -> None:
    one = device()
    one.put("t", "a/b", {"x": 1})
    one.patch("t", "a/b", {"x": 2})
    one.delete("t", "a/b")
    one.sync()
    now, then = history.record_at(one, "t", "a/b"), history.record_at(one, "t", "a/b", seq=2)
    assert now is not None
    assert then is not None
    assert (now.deleted, now.fields["x"], then.deleted, then.fields["x"], then.seq) == (True, 2, False, 2, 2)
    assert now.registers == one.registers("t", "a/b")
    assert then.complete
    assert history.record_at(one, "t", "a/b", at="2000-01-01T00:00:00Z") is None
    assert history.record_at(one, "t", "nothing") is None
    assert history.record_at(one, "t", "a/b", at=ahead(60)) == now
    with pytest.raises(Refused) as refused:
        history.record_at(one, "t", "a/b", space="not-there")
    assert (refused.value.code, refused.value.status) == ("space_not_found", 404)


def test_a_record_is_restored_here_and_everywhere(device: Device) -> None:
    one, two = device("one"), device("two")
    one.put("t", "r", {"x": 1, "y": 1})
    one.sync()
    one.patch("t", "r", {"x": 2, "z": 2})  # unsent: it is sent first, and taken back too
    seq = history.restore(one, "t", "r", 1)
    two.sync()
    assert values(one) == values(two) == {"x": 1, "y": 1}
    history.restore(one, "t", "r", seq - 1)
    two.sync()
    assert values(one) == values(two) == {"x": 2, "y": 1, "z": 2}


def test_a_space_is_read_and_restored(device: Device) -> None:
    one, two = device("one"), device("two")
    with one.batch() as batch:
        for n in range(5):
            batch.put("t", f"r{n}", {"n": n})
    one.sync()
    created = next(history.changes(one, "t", "r0")).created_at
    one.delete("t", "r0")
    one.put("t", "late", {"n": 9})
    one.sync()
    assert {record.id: record.fields["n"] for record in history.space_at(one, at=created, page=2)} == {
        f"r{n}": n for n in range(5)
    }
    assert {record.id for record in history.space_at(one)} == {"r1", "r2", "r3", "r4", "late"}
    done = history.restore_space(one, at=created)
    assert [(table, id) for table, id, _ in done] == [("t", "late"), ("t", "r0")]
    two.sync()
    assert [record.id for record in one.query("t")] == [record.id for record in two.query("t")]
    assert {record.id for record in two.query("t")} == {f"r{n}" for n in range(5)}
    history.restore_space(one, seq=done[0][2] - 1)
    assert {record.id for record in one.query("t")} == {"r1", "r2", "r3", "r4", "late"}
    assert history.restore_space(one, at=ahead(60)) == []


def test_a_restore_whose_answer_is_lost_is_done_once(server: Server, device: Device) -> None:
    sent: list[str] = []

    class Losing(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            answer = super().handle_request(request)
            if request.url.path.endswith("/restore"):
                sent.append(request.content.decode())
                if len(sent) == 1:
                    answer.read()
                    raise httpx2.ReadError("lost", request=request)
            return answer

    retry = RetryPolicy(first=0.001)
    with httpx2.Client(transport=Losing()) as http:
        one = device(send=HttpSender(http), retry=retry)
        one.put("t", "r", {"x": 1})
        one.patch("t", "r", {"x": 2})
        assert history.restore(one, "t", "r", 1) == 3
        assert len(list(history.changes(one, "t", "r"))) == 3
    assert len(sent) == 2
    assert sent[0] == sent[1]


def test_undo_leaves_what_others_have_written_since(device: Device) -> None:
    one, two = device("one"), device("two")
    one.put("t", "r", {"x": 1, "y": 1})
    one.put("t", "s", {"x": 1})
    one.sync()
    two.sync()
    with one.batch() as batch:
        batch.patch("t", "r", {"x": 2, "y": 2})
        batch.put("t", "new", {"x": 2})
    one.sync()
    two.sync()
    two.patch("t", "r", {"x": 3})
    two.patch("t", "new", {"y": 3})
    two.sync()
    one.sync()
    one.undo()
    one.sync()
    two.sync()
    assert values(one) == values(two) == {"x": 3, "y": 1}
    assert values(one, "new") == values(two, "new") == {"y": 3}


def test_undo_knows_its_own_write_by_a_lowered_stamp_too(device: Device) -> None:
    one = device(wall=lambda: 4_000_000_000_000_000)
    one.put("t", "r", {"x": 1})
    one.patch("t", "r", {"x": 2})
    one.sync()
    one.undo()
    one.sync()
    assert values(one) == {"x": 1}
