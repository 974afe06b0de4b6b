"""What would add to a full space, while a look finds that it has room again."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.service import push as pushes
from syncd.store.usage import Over
from tests.support.push_decisions import change, push


class Looking:
    """A log where the spaces that are full are looked at anew while it is asked what was written before."""

    def __init__(self, full: dict[str, Over]) -> None:
        self.full, self.hits = full, list[str]()

    async def pushed_before(self, *_: Any) -> set[str]:
        self.full.clear()
        return set()

    def on_hit(self, quota: str, space: str) -> None:
        self.hits.append(f"{quota} of {space}")


@pytest.mark.parametrize("numbered", [True, False])
async def test_a_space_that_gets_room_meanwhile_is_no_error(numbered: bool) -> None:
    log = Looking({"s": Over("s", "space_records", 3, 3)})
    work = push(change("c" if numbered else None))
    await pushes._leave_out_full(work, log)  # type: ignore[arg-type]
    assert [result and result.code for result in work.results] == ["quota_exceeded"]
    assert log.hits == ["space_records of s"]
