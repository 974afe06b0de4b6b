"""What tests of replicas and a server share: spaces, answers that are lost, and that all are the same at the end."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any, Protocol

import httpx2
from syncd_client import Replica
from syncd_client.data.merge import is_deleted

Shown = dict[Any, dict[str, Any]]


class Server(Protocol):
    """What these tests need of the `server` fixture."""

    url: str

    def token(self, user: str, spaces: Any = None) -> str: ...


def create_space(server: Server, owner: str) -> str:
    headers = {"Authorization": f"Bearer {server.token(owner)}"}
    name = f"space-{random.getrandbits(60):x}"
    httpx2.post(f"{server.url}/spaces", json={"id": name, "name": name}, headers=headers).raise_for_status()
    return name


def set_role(server: Server, owner: str, space: str, member: str, role: str | None) -> None:
    headers = {"Authorization": f"Bearer {server.token(owner)}"}
    url = f"{server.url}/spaces/{space}/members/{member}"
    if role is None:
        httpx2.delete(url, headers=headers).raise_for_status()
    else:
        httpx2.put(url, json={"role": role}, headers=headers).raise_for_status()


@contextlib.contextmanager
def lossy(chance: float, most: int = 1_000_000) -> Iterator[httpx2.Client]:
    """A client that loses replies to pushes after the server has sent them: `most` at most, each by chance."""
    left = [most]

    def perform(request: httpx2.Request) -> httpx2.Response:
        reply = plain.handle_request(request)
        reply.read()
        if request.method == "POST" and left[0] and random.random() < chance:
            left[0] -= 1
            raise httpx2.ReadError("the reply was lost")
        return reply

    with httpx2.HTTPTransport() as plain, httpx2.Client(transport=httpx2.MockTransport(perform)) as http:
        yield http


def live(replica: Replica) -> Shown:
    """The records that are not deleted, with values and stamps: what every device must agree on.

    A device that came after a delete never hears of the record, so tombstones are not compared. Where the
    server lowered a stamp, it notes what was sent beside the register: that is no part of it.
    """
    return {
        key: {name: register[:3] for name, register in registers.items()}
        for key, registers in replica.all_registers().items()
        if not is_deleted(registers)
    }


def check_same(*replicas: Replica) -> None:
    """Fails with the difference unless all hold the same live records."""
    first = live(replicas[0])
    for other in replicas[1:]:
        assert live(other) == first
