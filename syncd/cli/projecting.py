"""`syncd views apply`: tables with indexes beside the views, made and filled before they are read."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from syncd.cli.options import progress

if TYPE_CHECKING:
    from syncd.store.reports import Projection, ReportOperator, ReportView

# Records of a step; changes that a projection may lack when it is first read, as pushes go on; seconds without a step.
ROWS, SOME, PATIENCE = 2000, 1000, 120.0


class Projecting:
    """Brings the indexed copy of a table up to what its schema says."""

    def __init__(self, operator: ReportOperator, projections: list[Projection]) -> None:
        self._operator, self._projections = operator, projections

    async def bring(self, view: ReportView, indexes: list[str]) -> None:
        """Makes, fills and reads a table's projection, or removes it where nothing is indexed. Raises ClickException,
        asyncpg.DependentObjectsStillExistError."""
        from syncd.service.report_columns import indexed

        own = [one for one in self._projections if (one.app, one.table_name) == (view.app, view.table_name)]
        right = [one for one in own if same(one, view, indexes) and not one.is_told] if indexes else []
        name = indexed(view.view_name)
        if right and right[0].is_read:
            chosen: int | None = right[0].projection_id
            await self._operator.read_projection(view, name, chosen, again=False)
        elif not indexes:
            chosen = None
            if any(one.is_read for one in own):
                await self._operator.read_projection(view, name, None, again=True)
                progress(f"{view.app}/{view.table_name}: removed syncd_app.{name}")
        else:
            chosen = right[0].projection_id if right else await self._make(view, indexes)
            await self._fill(chosen, name)
            await self._operator.read_projection(view, name, chosen, again=not starts(own, view))
            progress(f"{view.app}/{view.table_name}: made syncd_app.{name}, with indexes on {', '.join(indexes)}")
        for one in own:
            if one.projection_id != chosen:
                await self._operator.drop_projection(one.projection_id)

    async def _make(self, view: ReportView, indexes: list[str]) -> int:
        return await self._operator.make_projection(view.app, view.table_name, view.columns, indexes)

    async def _fill(self, projection: int, name: str) -> None:
        moved = time.monotonic()
        while True:
            done, lacking = await self._operator.fill(projection, ROWS)
            if not lacking or (done and lacking <= SOME):
                return
            if done:
                moved = time.monotonic()
            elif time.monotonic() - moved > PATIENCE:
                raise click.ClickException(
                    f"syncd_app.{name}: {lacking:,} changes are not in it yet, and a transaction from before it was "
                    "made is still open: end that, then run this again"
                )
            else:
                await asyncio.sleep(0.1)


def same(projection: Projection, view: ReportView, indexes: list[str]) -> bool:
    """Whether a projection has what it is to have."""
    import msgspec

    columns = msgspec.json.decode(projection.columns), msgspec.json.decode(view.columns)
    return columns[0] == columns[1] and projection.indexes == indexes


def starts(own: list[Projection], view: ReportView) -> bool:
    """Whether the columns of the one that is read are the first ones of the view."""
    import msgspec

    wanted = msgspec.json.decode(view.columns)
    read = [msgspec.json.decode(one.columns) for one in own if one.is_read]
    return not read or wanted[: len(read[0])] == read[0]
