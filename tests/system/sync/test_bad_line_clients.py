"""Tests of the clients and of the board that are there anyway, over the same bad line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.programs import REPOSITORY

pytestmark = [pytest.mark.waits, pytest.mark.timeout(600)]

SYNCS = [
    "tests/client/test_against_server.py::test_two_devices_that_were_offline_agree_afterwards",
    "tests/client/test_against_server.py::test_a_deleted_record_comes_back_by_put_and_by_undelete_everywhere",
    "tests/client/test_against_server.py::test_a_shared_space_is_joined_read_written_and_left",
    "tests/client/test_against_server.py::test_an_atomic_batch_with_one_refused_change_is_refused_whole",
]
BOARD = ["tests/browser/test_board.py::test_two_windows_one_offline_edit_the_same_card_and_show_the_same[network]"]
LIVE = ["tests/client/test_live_against_server.py::test_a_cursor_of_nobody_begins_again"]
LIVES = ["tests/client/test_live_against_server.py::test_two_devices_see_each_other_s_writes_at_once"]


@pytest.mark.parametrize(
    "tests",
    [SYNCS, BOARD, LIVE, pytest.param(LIVES, marks=pytest.mark.soak)],
    ids=["sync", "board", "live", "live-both-ways"],
)
def test_tests_of_the_clients_pass_over_such_a_line(tests: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "500", *tests],
        cwd=REPOSITORY, env={**os.environ, "TEST_LINE": "bad"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
