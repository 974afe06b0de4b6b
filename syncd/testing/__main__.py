"""`python -m syncd.testing`: servers for tests in other languages, such as `@syncd/client/testing`.

A line of JSON on standard input asks for something: `do` says what, the rest with what. A line on standard output
answers, in the order of the questions, with `{"error": …}` where it could not be done. All ends with the input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from syncd.testing.network import Network
from syncd.testing.server import Server

FAULTS = ("cut", "drop_replies", "fail", "mend", "silence", "slow")
ENDS = ("kill", "restart", "start", "stop")


class Desk:
    """What can be asked for. Servers and networks have numbers."""

    def __init__(self) -> None:
        self._servers: list[Server] = []
        self._networks: list[Network] = []

    def open(self, settings: dict[str, Any], env: dict[str, str] | None = None) -> dict[str, Any]:
        """Starts a server, with environment variables of its workers."""
        server = Server(env=env, **settings)
        try:
            server.start()
        except BaseException:
            server.close()
            raise
        self._servers.append(server)
        urls = {"directUrl": server.direct_url, "databaseUrl": server.database_url}
        more = {"runtimeUrl": server.runtime_url, "ownerUrl": server.owner_url}
        number = {"server": len(self._servers) - 1}
        return {**number, **urls, **more, "network": self._numbered(server.network)}

    def network(self, server: int) -> dict[str, Any]:
        """Another line to a server."""
        return self._numbered(self._servers[server].new_network())

    def line(self, network: int, what: str, how: dict[str, Any]) -> None:
        """One of `FAULTS`, done to a line."""
        getattr(self._networks[network], _one_of(FAULTS, what))(**how)

    def process(self, server: int, what: str, how: dict[str, Any]) -> None:
        """One of `ENDS`, done to a server."""
        getattr(self._servers[server], _one_of(ENDS, what))(**how)

    def token(self, server: int, user: str, claims: dict[str, Any]) -> str:
        """A token; `ttl` among the claims is for how many seconds."""
        return self._servers[server].token(user, **claims)

    def space(self, server: int, id: str, members: dict[str, str]) -> str:
        """Makes a space with members."""
        return self._servers[server].space(id, members)

    def output(self, server: int) -> str:
        """What a server said."""
        return self._servers[server].output()

    def close(self, server: int) -> None:
        """Ends a server, and throws its database away."""
        self._servers[server].close()

    def _numbered(self, network: Network) -> dict[str, Any]:
        self._networks.append(network)
        return {"network": len(self._networks) - 1, "url": network.url}


def _one_of(names: tuple[str, ...], what: str) -> str:
    if what not in names:
        raise ValueError(f"there is no {what}: it is one of {', '.join(names)}")
    return what


def answered(desk: Desk, line: str) -> dict[str, Any]:
    """The answer to a line."""
    try:
        asked = json.loads(line)
        done: Callable[..., Any] = getattr(desk, _one_of(QUESTIONS, asked.pop("do")))
        return {"answer": done(**asked)}
    except Exception as error:
        return {"error": str(error)}


QUESTIONS = tuple(name for name in vars(Desk) if not name.startswith("_"))


def main() -> None:
    """Answers until the end of standard input."""
    # What is printed by somebody else is no answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        desk = Desk()
        for line in sys.stdin:
            print(json.dumps(answered(desk, line)), file=out, flush=True)


if __name__ == "__main__":
    main()
