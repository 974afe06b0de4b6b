"""What docs/guide/schemas.md puts in force, for the server that the guides' code talks to: its files, its command."""

from __future__ import annotations

import re
import time

import httpx

from tests.support.command_line import syncd
from tests.support.harness import Server
from tests.support.programs import REPOSITORY
from tests.support.wire import Device, edit, unique

SOON = 60.0


def put_in_force(server: Server) -> None:
    """Runs the page's command with the page's files, and waits until the server judges by them."""
    page = (REPOSITORY / "docs/guide/schemas.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(json|sh)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    files = [server.data_dir.with_name(f"schemas{n}.json") for n in range(2)]
    for file, text in zip(files, [text for kind, text in blocks if kind == "json"], strict=True):
        file.write_text(text)
    called = re.search(r"^syncd (schema apply) shop\.json --database-url", page, re.MULTILINE)
    assert called is not None
    done = syncd(*called[1].split(), *files, "--database-url", server.owner_dsn)
    assert done.returncode == 0, done.stderr
    with httpx.Client(base_url=server.url, timeout=60) as http:
        device, begun = Device(http, server, unique("probe"), app="shop"), time.monotonic()
        while device.push({**edit(unique("r"), item=1), "table": "orders"})["results"][0]["status"] != "rejected":
            assert time.monotonic() - begun < SOON
            time.sleep(0.05)
