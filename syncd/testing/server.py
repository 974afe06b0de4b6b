"""A real server with a database of its own, for as long as a test or a `with` block lasts."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from syncd.settings import SettingsError, table
from syncd.testing.clock import Clock
from syncd.testing.kept import ROLE, kept_template
from syncd.testing.network import Network
from syncd.testing.process import ServeError, ServeProcess
from syncd.testing.proxy import Proxy
from syncd.testing.template import in_memory

if TYPE_CHECKING:
    from syncd_client import Replica

# What a server of the tests decides itself.
OWN = ("data_dir", "database_url", "host", "migrate_url", "port")
# A developer's settings and database are none of a test's; a warning that is an error here would end the server.
NOT_INHERITED = ("SYNCD_", "PG", "PYTHONWARNINGS")


class Server:
    """`with Server() as server:` starts `syncd serve` and a PostgreSQL, both gone at the end of the block with all that
    was written. The first one makes a database, which takes seconds; the others begin with a copy of it.

    `settings` are settings of `syncd serve` by name: `Server(rules="shop.rules", max_changes=10)`. `env`: further
    environment variables. `clock` is what its replicas go by, `network` what they and `url` go over. Raises
    SettingsError for a setting that there is not, and ServeError where the server does not become ready.
    """

    def __init__(self, *, env: Mapping[str, str] | None = None, **settings: Any) -> None:
        written = _written(settings)
        self.clock = Clock()
        self._folder = Path(tempfile.mkdtemp(prefix="syncd-testing-", dir=in_memory()))
        # Of one that is never closed as well.
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._process = _OwnedServe(self._folder, written, env or {})
        self._network: Network | None = None
        self._networks: list[Network] = []
        self._replicas: list[Replica] = []
        self._devices: dict[tuple[str, str, str], Path] = {}

    @property
    def network(self) -> Network:
        """Between the server and all that connects to `url`."""
        if self._network is None:
            raise ServeError("the server is not started: `with Server() as server:`, or server.start()")
        return self._network

    @property
    def url(self) -> str:
        """Its address, over `network`; it stays the same when the server starts again."""
        return self.network.url

    @property
    def direct_url(self) -> str:
        """Its address past the network: what is sent there arrives whatever becomes of that."""
        return self._process.url

    @property
    def database_url(self) -> str:
        """The database as an application's backend has it: a role that may `syncd.write`, `syncd.read` and
        `syncd.consume`, and make tables of its own in the schema `public`."""
        return self._process.dsn(ROLE)

    @property
    def runtime_url(self) -> str:
        """The database as the role that serves: for `syncd.asgi.create_app` in an application of yours."""
        return self._process.runtime_dsn

    @property
    def owner_url(self) -> str:
        """The database as its superuser."""
        return self._process.owner_dsn

    @property
    def folder(self) -> Path:
        """A folder that goes away with the server."""
        return self._folder

    def token(self, user: str, *, ttl: float = 3600.0, **claims: Any) -> str:
        """A token that this server accepts, for `ttl` seconds; with less than 0 it has expired. `claims` are put into
        it: `spaces=[{"id": "garden", "role": "reader"}]` counts with the setting `memberships="token"`."""
        return self._process.token(user, ttl=ttl, **claims)

    def user(self, name: str) -> User:
        """A user, who need not be known before: `server.user("ada").replica("notes")`."""
        return User(self, name)

    def replica(
        self, user: str, *, app: str, device: str | None = None, network: Network | None = None,
        clock: Clock | None = None, **options: Any,
    ) -> Replica:  # fmt: skip
        """A device of this user: a `Replica` of syncd_client, in a file of the test's. The server closes it at its end.

        Each call makes another device, but for one that is named: closed and opened again it has what it had. It goes
        over `network` and by `clock`, the server's unless given, and gives up soon when it is offline. `options` are
        further ones of `Replica`. Raises ModuleNotFoundError where syncd-client is not installed.
        """
        from syncd_client import Replica, RetryPolicy

        key = (user, app, device or secrets.token_hex(8))
        path = self._devices.setdefault(key, self._folder / f"device-{len(self._devices)}.db")
        standard: dict[str, Any] = {
            "url": (network or self.network).url, "token": self.token(user), "wall": clock or self.clock,
            "durability": "normal", "retry": RetryPolicy(attempts=3, first=0.01, longest=0.05),
        }  # fmt: skip
        replica = Replica(path, app=app, **(standard | options))
        self._replicas.append(replica)
        return replica

    def space(self, id: str, members: Mapping[str, str], *, name: str | None = None) -> str:
        """Makes a space with members, by user and role; the first owner makes it. Returns its id.

        Raises ValueError without an owner, and RuntimeError with what the server said when it refused.
        """
        owner = next((user for user, role in members.items() if role == "owner"), None)
        if owner is None:
            raise ValueError("a space has an owner: members={'ada': 'owner', 'bob': 'writer'}")
        self.request(owner, "POST", "/spaces", {"id": id, "name": name or id})
        for user, role in members.items():
            if user != owner:
                self.request(owner, "PUT", f"/spaces/{id}/members/{user}", {"role": role})
        return id

    def request(self, user: str, method: str, path: str, body: Any = None) -> Any:
        """An HTTP request as this user, past the network; the JSON of its answer, None where that is empty.

        Raises RuntimeError, with the answer, where that is none of 200 to 299.
        """
        import httpx

        headers = {"authorization": f"Bearer {self.token(user)}"}
        answer = httpx.request(method, self.direct_url + path, headers=headers, json=body, timeout=60)
        if not answer.is_success:
            raise RuntimeError(f"{method} {path} as {user}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def unique(self, name: str) -> str:
        """A name that no other test has, for users and spaces of a server that several tests share."""
        return f"{name}-{secrets.token_hex(5)}"

    def new_network(self) -> Network:
        """Another line to the server, for a device that is to be offline alone. The server closes it at its end."""
        if not self._process.port:
            raise ServeError("the server is not started: `with Server() as server:`, or server.start()")
        network = Network(Proxy(self._process.port)).__enter__()
        self._networks.append(network)
        return network

    def output(self) -> str:
        """What it wrote to standard error, over all its starts."""
        return self._process.output() if self._process.log.exists() else ""

    def start(self) -> None:
        """Starts it, or starts it again after `stop` or `kill`: with the same data, on the same port."""
        kept_template().copy_to(self._process.data_dir)
        self._process.start()
        if self._network is None:
            self._network = self.new_network()

    def stop(self) -> None:
        """Ends it in order: requests in flight are finished, and its connections closed. The data stay."""
        self._process.stop()

    def kill(self) -> None:
        """Ends it as a power cut does: SIGKILL, for its workers and its database too. The data stay."""
        self._process.kill()

    def restart(self, **settings: Any) -> None:
        """Ends it in order and starts it again, with `settings` in place of those that it had."""
        self._process.settings |= _written(settings)
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends it and everything that it made, and removes the folder."""
        for replica in self._replicas:
            replica.close()
        for network in self._networks:
            network.close()
        self._process.discard()
        self._remove()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class User:
    """A user of a test: a token, and devices. Made by `server.user("ada")`."""

    def __init__(self, server: Server, name: str) -> None:
        self.name, self._server = name, server

    @property
    def token(self) -> str:
        """A new one, for an hour."""
        return self._server.token(self.name)

    def replica(self, app: str, device: str | None = None, **options: Any) -> Replica:
        """A device of this user: see `Server.replica`."""
        return self._server.replica(self.name, app=app, device=device, **options)

    def __repr__(self) -> str:
        return f"<User {self.name}>"


class _OwnedServe(ServeProcess):
    """It ends with this process, and has no settings of the developer's."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], env: Mapping[str, str]) -> None:
        # Root's database runs as another user, who has to get there.
        folder.chmod(0o755)
        self._folder = folder
        super().__init__(folder / "data", settings=settings, env=env)

    def command_line(self) -> list[str]:
        return [sys.executable, "-m", "syncd.testing.serve", str(self._folder)]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        return {**kept, **self.variables(), **self.env}


def _written(settings: Mapping[str, Any]) -> dict[str, str]:
    """As variables have them. Raises SettingsError."""
    known = {setting.name: setting for setting in table()}
    for name in settings:
        if name in OWN:
            raise SettingsError(f"{name}= is not for a server of a test: it has an address and a database of its own")
        if name not in known:
            raise SettingsError(f"there is no setting called {name}")
    return {name: known[name].write(tuple(it) if isinstance(it, list) else it) for name, it in settings.items()}
