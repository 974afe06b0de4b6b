"""The bus over NATS, for when the database should not carry it: core publish and subscribe, nothing is stored."""

from __future__ import annotations

import re

from syncd.bus.hints import BusError
from syncd.bus.link import HeartbeatBus


class NatsBus(HeartbeatBus):
    """Hints on the subject `syncd.hints.<tag>`, so that deployments on one server do not mix.

    `url` is nats:// or tls://, with user and password if need be, or several of them with commas.

    Raises:
        BusError: the tag is no word, or the library is not installed.
    """

    def __init__(self, url: str, tag: str) -> None:
        if not re.fullmatch(r"[\w-]+", tag, re.ASCII):
            raise BusError(f"the tag of a NATS subject has to be of letters, digits, _ and -, not {tag!r}")
        try:
            # Only here, so that syncd runs without it.
            from syncd.bus.nats_link import connect
        except ModuleNotFoundError as why:
            if why.name is None or why.name.split(".")[0] != "nats":
                raise
            raise BusError("SYNCD_BUS is a NATS server, which needs a library: pip install 'syncd[nats]'") from None
        servers = [part.strip() for part in url.split(",")]
        super().__init__("nats", lambda receive: connect(servers, f"syncd.hints.{tag}", receive))
