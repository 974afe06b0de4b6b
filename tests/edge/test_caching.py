"""What is a user's is kept by no cache: where a cookie says who asks, its address is everybody's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.wire import Device, ahead, edit, unique

KEPT_BY_NOBODY = "private, no-store"


@pytest.mark.parametrize("large", [False, True])
def test_no_answer_of_a_user_s_may_be_kept(device: Callable[..., Device], large: bool) -> None:
    ada = device(unique("ada"))
    ada.write(*(edit(f"r{n}", ahead(0), x="x" * 100_000 * large) for n in range(5)))
    for path in (
        "/sync/app/pull", "/spaces", "/quota", "/sync/app/records/t/r0", "/sync/app/records/t/r0/history",
        "/invitations", "/sync/app/held", "/sync/app/records/t/nowhere", "/sync/app/pull?since=wrong", "/backup/export",
    ):  # fmt: skip
        answer = ada.request("GET", path)
        assert "no-store" in answer.headers["cache-control"], path
        assert len(answer.headers.get_list("cache-control")) == 1, path
    pushed = ada.request("POST", "/sync/app", json={"changes": [edit("r", ahead(0), x=1)], "since": ""})
    assert pushed.headers["cache-control"] == KEPT_BY_NOBODY


def test_what_is_everybody_s_may(device: Callable[..., Device]) -> None:
    somebody = device(unique("somebody"))
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        answer = somebody.http.get(path)
        assert answer.headers.get("cache-control") != KEPT_BY_NOBODY, path
