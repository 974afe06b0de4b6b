"""A history in both forms of its pages: what a replica keeps is the same, byte for byte."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

from syncd_client import HttpSender, Replica
from syncd_client.sync.http import HttpRequest, HttpResponse

from tests.support.agreeing import Server
from tests.support.wire import Device, edit, unique
from tests.support.words import Crowd

Make = Callable[..., Device]
WORDS = "application/vnd.syncd.words"


class Sending:
    """Sends as ever, or without asking for words. `types`: of the answers to pulls."""

    def __init__(self, *, words: bool) -> None:
        self._send, self._words, self.types = HttpSender(), words, list[str]()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        assert "&words=1" in request.url or "/pull?" not in request.url
        answer = self._send(request if self._words else request._replace(url=request.url.replace("&words=1", "")))
        if "/pull?" in request.url:
            self.types.append(answer.headers["content-type"])
        return answer

    def close(self) -> None:
        self._send.close()


def kept(path: Path) -> list[tuple[object, ...]]:
    """All that a file has of records, in the bytes in which it has it."""
    with sqlite3.connect(path) as db:
        db.text_factory = bytes
        return sorted(db.execute("SELECT * FROM records").fetchall(), key=repr)


def test_both_forms_leave_the_same_bytes(server: Server, device: Make, tmp_path: Path) -> None:
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    crowd = Crowd(device, random.Random(seed))
    crowd.write(300)
    senders = {name: Sending(words=name == "words") for name in ("words", "plain")}
    for step in range(2):
        for name, send in senders.items():
            path = tmp_path / f"{name}.db"
            token = server.token(crowd.user)
            with Replica(path, app=crowd.app, url=server.url, token=token, client_id=name, send=send) as replica:
                replica.pull()
        stored = [kept(tmp_path / f"{name}.db") for name in senders]
        assert len(stored[0]) > 60, seed
        assert stored[0] == stored[1], (seed, step)
        crowd.write(50)
    for send in senders.values():
        send.close()
    assert WORDS in senders["words"].types
    assert set(senders["plain"].types) == {"application/json"}


def test_only_who_asks_is_sent_words(device: Make) -> None:
    ann = device(unique("ann"), app=unique("app"))
    ann.write(*(edit(f"r{n}", v=n, text="x" * 200) for n in range(200)))
    old = device(ann.user, "old", app=ann.app, legacy=True)
    before = ann.ask()
    for _ in range(3):  # made, kept, and as others were sent
        answers = [ann.ask(words=1), ann.ask(), ann.ask(words=0), ann.ask(words=1, history=1), old.ask(words=1)]
        types = [answer.headers["content-type"] for answer in answers]
        assert types == [WORDS, *["application/json"] * 4]
        assert b"\x04=" in answers[0].content
        assert (
            answers[1].json()["serverChanges"] == answers[2].json()["serverChanges"] == before.json()["serverChanges"]
        )
        assert {"data", "fields"} <= set(answers[4].json()["serverChanges"][0])
        for coding in ("gzip", "identity"):
            again = ann.request("GET", f"/sync/{ann.app}/pull?since=&words=1", headers={"accept-encoding": coding})
            assert again.headers["content-type"] == WORDS
            assert again.content.partition(b"serverChanges")[2] == answers[0].content.partition(b"serverChanges")[2]
