"""A real server with a database of its own, for as long as a test or a `with` block lasts."""

from __future__ import annotations

import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx2
import jwt

from syncd.postgres.cluster import OWNER, RUNTIME
from syncd.settings import Settings, SettingsError
from syncd.testing.clock import Clock
from syncd.testing.hosting import host_process, running_host
from syncd.testing.kept import ROLE
from syncd.testing.network import Network
from syncd.testing.proxy import Proxy
from syncd.testing.template import ServeError

if TYPE_CHECKING:
    from syncd_client import Replica

# What a server of the tests decides itself.
OWN = ("compact_every", "data_dir", "database_url", "host", "migrate_url", "port", "user")
TIMEOUT = 60.0
LOG = "server.log"
# In a variable of the workers.
ADDRESS = re.compile(r"\{((?:database|runtime|owner)_url)\}")
NOT_STARTED = "the server is not started: `with Server() as server:`, or server.start()"


class Server:
    """`with Server() as server:` serves a database of its own, which is thrown away at the end of the block.

    Its fork server and workers are those of `syncd serve`, forked from a process that has loaded them. The first server
    of a run starts that, with a PostgreSQL that all servers share; a database is a copy of one that was made before.

    `settings` are settings of `syncd serve` by name: `Server(rules="shop.rules", max_changes=10)`. `env`: environment
    variables of the workers; in their values `{database_url}`, `{runtime_url}` and `{owner_url}` are the addresses of
    its database, for rules that read it. `clock` is what its replicas go by, `network` what they and `url` go over.
    Raises SettingsError for a setting that cannot be used, and ServeError where the server does not become ready.
    """

    def __init__(self, *, env: Mapping[str, str] | None = None, **settings: Any) -> None:
        self._settings, self._env = _checked(settings), dict(env or {})
        self._secret = self._settings.get("jwt_secret") or secrets.token_urlsafe(48)
        self.clock = Clock()
        self._folder: Path | None = None
        self._database = f"test_{secrets.token_hex(8)}"
        self._pid, self._port = 0, 0
        self._network: Network | None = None
        self._networks: list[Network] = []
        self._replicas: list[Replica] = []
        self._clients: list[httpx2.Client] = []
        self._devices: dict[tuple[str, str, str], Path] = {}

    @property
    def network(self) -> Network:
        """Between the server and all that connects to `url`."""
        if self._network is None:
            raise ServeError(NOT_STARTED)
        return self._network

    @property
    def url(self) -> str:
        """Its address, over `network`; it stays the same when the server starts again."""
        return self.network.url

    @property
    def direct_url(self) -> str:
        """Its address past the network: what is sent there arrives whatever becomes of that."""
        self.network  # noqa: B018 (raises where it is not started)
        return f"http://127.0.0.1:{self._port}"

    @property
    def database_url(self) -> str:
        """The database as an application's backend has it: a role that may `syncd.write`, `syncd.read` and
        `syncd.consume`, and make tables of its own in the schema `public`."""
        return host_process().url(ROLE, self._database)

    @property
    def runtime_url(self) -> str:
        """The database as the role that serves: for `syncd.asgi.create_app` in an application of yours."""
        return host_process().url(RUNTIME, self._database)

    @property
    def owner_url(self) -> str:
        """The database as its superuser."""
        return host_process().url(OWNER, self._database)

    @property
    def folder(self) -> Path:
        """A folder that goes away with the server."""
        if self._folder is None:
            raise ServeError(NOT_STARTED)
        return self._folder

    def token(self, user: str, *, ttl: float = 3600.0, **claims: Any) -> str:
        """A token that this server accepts, for `ttl` seconds; with less than 0 it has expired. `claims` are put into
        it: `spaces=[{"id": "garden", "role": "reader"}]` counts with the setting `memberships="token"`."""
        now = time.time()
        said: dict[str, Any] = {"sub": user, "iat": int(now), "exp": int(now + ttl)}
        for claim, setting in (("iss", "jwt_issuer"), ("aud", "jwt_audience")):
            if self._settings.get(setting):
                said[claim] = self._settings[setting]
        return jwt.encode(said | claims, self._secret, algorithm="HS256")

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
        from syncd_client import HttpSender, Replica, RetryPolicy

        key = (user, app, device or secrets.token_hex(8))
        path = self._devices.setdefault(key, self.folder / f"device-{len(self._devices)}.db")
        standard: dict[str, Any] = {
            "url": (network or self.network).url, "token": self.token(user), "wall": clock or self.clock,
            "durability": "normal", "retry": RetryPolicy(attempts=3, first=0.01, longest=0.05),
        }  # fmt: skip
        if "send" not in options:
            # Without the certificates of all authorities, which take as long to read as the rest.
            self._clients.append(client := httpx2.Client(verify=False))
            standard["send"] = HttpSender(client)
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
        headers = {"authorization": f"Bearer {self.token(user)}"}
        with httpx2.Client(verify=False, timeout=TIMEOUT) as http:
            answer = http.request(method, self.direct_url + path, headers=headers, json=body)
        if not answer.is_success:
            raise RuntimeError(f"{method} {path} as {user}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def unique(self, name: str) -> str:
        """A name that no other test has, for users and spaces of a server that several tests share."""
        return f"{name}-{secrets.token_hex(5)}"

    def new_network(self) -> Network:
        """Another line to the server, for a device that is to be offline alone. The server closes it at its end."""
        if not self._port:
            raise ServeError(NOT_STARTED)
        network = Network(Proxy(self._port)).__enter__()
        self._networks.append(network)
        return network

    def output(self) -> str:
        """What its workers wrote to standard error, over all its starts."""
        log = None if self._folder is None else self._folder / LOG
        return "" if log is None or not log.exists() else log.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Starts it, or starts it again after `stop` or `kill`: with the same data, on the same port."""
        if self._pid:
            return
        host = host_process()
        settings = Settings.load(
            {}, **{**self._settings, "database_url": self.runtime_url, "jwt_secret": self._secret, "compact_every": 0}
        )
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="server-", dir=host.folder))
            key = settings.context_key or ""
            host.ask("database", name=self._database, memberships=settings.memberships, context_key=key)
        try:
            served = host.ask(
                "serve", settings=settings.environment(), environment=self._environment(), path=sys.path,
                port=self._port, log=str(self._folder / LOG),
            )  # fmt: skip
        except ServeError as error:
            raise ServeError(f"{error}\n{self.output()[-4000:]}") from None
        self._pid, self._port = served["pid"], served["port"]
        if self._network is None:
            self._network = self.new_network()

    def _environment(self) -> dict[str, str]:
        """What the workers have beside the settings, with its addresses put in."""
        return {
            name: ADDRESS.sub(lambda found: str(getattr(self, found[1])), value) for name, value in self._env.items()
        }

    def stop(self) -> None:
        """Ends it in order: requests in flight are finished, and its connections closed. The data stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it by SIGKILL, its workers too, wherever they are just now. What was acknowledged stays."""
        self._end(signal.SIGKILL)

    def restart(self, **settings: Any) -> None:
        """Ends it in order and starts it again, with `settings` in place of those that it had.

        With another `jwt_secret` the tokens of before are refused, and `token` makes new ones.
        """
        self._settings |= _checked(settings)
        self._secret = self._settings.get("jwt_secret") or self._secret
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends it and everything that it made, and removes database and folder."""
        for replica in self._replicas:
            replica.close()
        for client in self._clients:
            client.close()
        for network in self._networks:
            network.close()
        self.kill()
        if self._folder is not None:
            if (host := running_host()) is not None:
                host.ask("drop", name=self._database)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, sign: signal.Signals) -> None:
        pid, self._pid = self._pid, 0
        if pid and (host := running_host()) is not None:
            host.ask("end", pid=pid, sign=int(sign))

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


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Raises SettingsError."""
    for name in settings:
        if name in OWN:
            raise SettingsError(f"{name}= is not for a server of a test: it has an address and a database of its own")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    Settings.load({}, **given)
    return given
