"""An import that is interrupted, and done again: nothing is there twice, nothing is missing, whatever it was cut at."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from syncd.core.errors import DatabaseUnavailable
from syncd.core.principal import Principal
from syncd.protocol.normalize import Limits
from syncd.store.pool import Pool
from syncd.transfer.export_reader import ExportReader
from syncd.transfer.importer import Importer, ImportReport
from tests.support.harness import Server
from tests.support.wire import Device, Json, edit, unique
from tests.system.sync.test_touched import grow_in
from tests.system.transfer.test_backup import line, signed

Make = Callable[..., Device]
LATEST = 1 << 60


class Interrupted(Importer):
    """Loses its database after it has written so often."""

    left = 1 << 30

    async def _append(self, head: dict[str, Any], batch: Any) -> tuple[str, list[int]]:
        if not self.left:
            raise DatabaseUnavailable
        found = await super()._append(head, batch)
        self.left -= 1
        return found


@pytest.fixture
async def importer(server: Server) -> AsyncIterator[Interrupted]:
    pool = Pool(server.runtime_dsn, size=2)
    yield Interrupted(pool, Limits(max_touched=32_000))
    await pool.close()


async def brought(importer: Importer, user: str, data: bytes) -> ImportReport:
    reader = ExportReader(io.BytesIO(data), "ndjson", len(data) + 1, own=True)
    reader.verify()
    return await importer.as_user(reader, Principal(user), LATEST)


def seen(device: Device) -> list[tuple[int, str, str]]:
    """The log, from its beginning: seq, event id, record."""
    return sorted((c["seq"], c["eventId"], c["id"]) for c in device.drain(history=1)[0])


@pytest.mark.parametrize("identified", [True, False], ids=["with change ids", "without"])
@pytest.mark.parametrize("after", [1, 2, 3])
async def test_an_import_that_was_cut_goes_on_where_it_was_interrupted(
    server: Server, device: Make, importer: Interrupted, after: int, identified: bool
) -> None:
    """Each push is more than may be written at once. No change is there twice."""
    writer = device(unique("u"))
    writer.write(*(edit(record, n=1) for record in "abcdef"))
    await grow_in(server.owner_dsn, f"_personal:{writer.user}", 12_000)
    lines: list[Json] = []
    for n, record in enumerate("abcdefabcdef", 1):
        more = {"changeId": f"c{n}"} if identified else {}
        lines.append(line(writer.user, 100 + n, id=record, pushEnd=106 if n <= 6 else 112, **more))
    data = signed(lines)
    importer.left = after
    with pytest.raises(DatabaseUnavailable):
        await brought(importer, writer.user, data)
    importer.left = 1 << 30
    report = await brought(importer, writer.user, data)
    assert report.imported + report.duplicates == 12
    assert (report.refused, report.duplicates > 0) == (0, True)
    log = [(seq, event) for seq, event, _ in seen(writer) if event.startswith("01990000")]
    assert len({event for _, event in log}) == len(log) == 12
    assert (await brought(importer, writer.user, data)).duplicates == 12
