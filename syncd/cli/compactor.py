"""`python -m syncd.cli.compactor`: what `syncd serve` starts now and then. Compacts if no server has for long."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import msgspec
import structlog

from syncd.cli.supervisor import NOT_ALLOWED
from syncd.settings import Settings

log = structlog.get_logger("syncd.compactor")


def main() -> int:
    """The exit status."""
    from syncd.cli.logs import start_logging
    from syncd.cli.migrate import refusals

    # Everybody who waits for an answer comes first.
    os.nice(10)
    settings = Settings.load(msgspec.json.decode(sys.stdin.buffer.read(), type=dict[str, str]))
    start_logging(settings)
    try:
        return asyncio.run(_compact(settings))
    except refusals() as why:
        log.warning("compaction stopped", error=type(why).__name__)
        return 1


async def _compact(settings: Settings) -> int:
    from syncd.postgres.sessions import OPERATOR, connect
    from syncd.service.compact import Compaction, Policy
    from syncd.store.compaction import Compactor, LeaseLost, NotAllowed, act_as_compactor, last_done

    connection = await connect(settings.migrate_url or "", statement_cache_size=0, timeout=10, settings=OPERATOR)
    try:
        try:
            await act_as_compactor(connection)
        except NotAllowed:
            log.warning("compaction needs a login that is a member of syncd_compactor: run `syncd compact` as one")
            return NOT_ALLOWED
        now = datetime.now(UTC)
        done = await last_done(connection)
        compactor = Compactor(connection)
        recently = done is not None and done > now - timedelta(seconds=settings.compact_every)
        if recently or not await compactor.take():
            return 0
        tombstones = timedelta(seconds=settings.compact_tombstones) if settings.compact_tombstones else None
        audit = timedelta(seconds=settings.compact_audit) if settings.compact_audit else None
        devices = timedelta(seconds=settings.compact_devices) if settings.compact_devices else None
        policy = Policy(timedelta(seconds=settings.compact_history), tombstones, audit=audit, devices=devices)
        work = Compaction(compactor, policy, now, rest=3.0)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.stop)
        try:
            report = await work.run(await work.plan())
        except LeaseLost:
            log.info("compaction goes on elsewhere")
            return 0
        if not report.stopped:
            await compactor.give_back()
        if report.looked or report.forgotten or report.names:
            log.info("compacted", **asdict(report))
        return 0
    finally:
        await connection.close()


if __name__ == "__main__":
    sys.exit(main())
