"""The filler of reports leaves the database most of its time."""

from __future__ import annotations

import pytest

from syncd.service.projections import EVERY, EVERY_WITHOUT, SHARE, pause
from syncd.store.reports import ProjectionStep


@pytest.mark.parametrize(
    ("step", "seconds"),
    [
        (ProjectionStep(None, False, None), EVERY_WITHOUT),
        (ProjectionStep(0, False, 0.001), EVERY),
        (ProjectionStep(3, False, 0.5), SHARE * 0.5),
        (ProjectionStep(200, True, 0.5), 0.0),
    ],
)
def test_the_next_step_waits_as_the_look_took_unless_there_is_more(step: ProjectionStep, seconds: float) -> None:
    assert pause(step) == seconds
