"""What the supervisor tells the fork server when there is a database to serve from."""

from __future__ import annotations

import msgspec


class Orders(msgspec.Struct, frozen=True):
    """`environment`: the settings, as variables that `Settings.load` reads. `token`: the command that prints one."""

    environment: dict[str, str]
    token: str
