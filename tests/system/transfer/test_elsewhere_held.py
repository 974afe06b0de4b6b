"""`syncd import --from mana`: what of a first-generation log cannot be written is held, as a push of it would be."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.erasing import erase, tables_with
from tests.support.first_generation import Log, first_generation
from tests.support.harness import Server
from tests.support.holding import held
from tests.support.wire import Device, at, edit, unique, values
from tests.system.transfer.test_elsewhere import bring, counted
from tests.system.transfer.test_operator_backup import syncd

Make = Callable[..., Device]
LARGE = "y" * (1 << 20)


@pytest.fixture
async def meta(server: Server) -> AsyncIterator[Log]:
    async with first_generation(server.owner_dsn) as made:
        yield made


def operator(server: Server, user: str, *arguments: str) -> str:
    return syncd("held", *arguments, "--user", user, "--database-url", server.owner_dsn)


def said_to_nobody(server: Server, *arguments: str) -> bytes:
    """What a command says whose reader went away."""
    command = [sys.executable, "-m", "syncd", *arguments, "--database-url", server.owner_dsn]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        return running.stderr.read()


@pytest.mark.parametrize(
    "time", ["", None, "yesterday", True, {"at": "", "x": 1}, {"at": None}, {"at": "2026-13-01"}, []]
)
async def test_a_time_that_is_none_is_when_the_row_was_made(server: Server, device: Make, meta: Log, time: Any) -> None:
    user = unique("ada")
    await meta.add("r", "update", {"x": 1}, user_id=user, times={"x": time}, created_at=at(5))
    assert counted(bring(server, meta, "--strict"))["imported"] == 1
    assert device(user).drain()[0][0]["fields"]["x"]["at"] == at(5)


async def test_times_that_are_no_object_a_row_without_one_and_a_device_s_id_that_is_none(
    server: Server, device: Make, meta: Log
) -> None:
    user = unique("ada")
    await meta.add("r", "update", {"x": 1}, user_id=user, times="[1]", created_at=at(5))
    await meta.add("s", "insert", {"x": 1}, user_id=user, created_at=None)
    await meta.add("q", "insert", {"x": 1}, user_id=user, client_id="c" * 256)
    assert counted(bring(server, meta, "--strict"))["imported"] == 3
    assert {c["id"]: c["clientId"] for c in device(user).drain()[0]} == {
        "r": "phone", "s": "phone", "q": f"legacy:{user}"}  # fmt: skip


@pytest.mark.parametrize("op", ["insert", "update"])
@pytest.mark.parametrize("nothing", ["", False, 0, None])
async def test_a_deletion_that_is_none_deletes_nothing(
    server: Server, device: Make, meta: Log, op: str, nothing: Any
) -> None:
    user = unique("ada")
    await meta.add("r", op, {"x": 1, "deletedAt": nothing}, user_id=user)
    assert counted(bring(server, meta, "--strict"))["imported"] == 1
    assert values(device(user).drain()[0])["r"]["x"] == 1


async def test_what_cannot_be_written_is_held_and_told(server: Server, device: Make, meta: Log, folder: Path) -> None:
    user = unique("ada")
    who = {"user_id": user}
    bad: dict[int, str] = {
        await meta.add("r", "merge", {"x": 1}, **who): "invalid_change",
        await meta.add("", "update", {"x": 1}, **who): "invalid_change",
        await meta.add("r" * 300, "insert", {"x": 1}, **who): "invalid_change",
        await meta.add("r", "update", "[1]", **who): "invalid_change",
        await meta.add("r", "update", '{"x": "\\ud800"}', **who): "invalid_value",
        await meta.add("r", "update", '{"x": "\\u0000"}', **who): "invalid_value",
        await meta.add("r", "update", '{"x": 1e999}', **who): "invalid_value",
        await meta.add("big", "update", {"x": LARGE}, **who): "change_too_large",
        await meta.add("r", "update", {"x": 1}, **who, space_id="_personal:somebody"): "space_not_found",
        await meta.add("r", "update", {"x": 1}, **who, space_id="s" * 256): "invalid_id",
        await meta.add("r", "update", {"x\n": 1}, **who): "invalid_change",
    }
    lost = await meta.add("r", "update", {"x": 1}, user_id=None)
    file = folder / "refused.jsonl"
    try:
        said = bring(server, meta, "--refusals", file)
        told = {row["where"]: (row["code"], row["held"]) for row in map(json.loads, file.read_text().splitlines())}
        assert told == {f"row {n}": (code, True) for n, code in bad.items()} | {f"row {lost}": ("invalid_row", False)}
        assert (counted(said)["held"], counted(said)["refused"], counted(said)["different"]) == (len(bad), 1, 0)
        again = counted(bring(server, meta))
        assert (again["held"], again["different"]) == (len(bad), 0)
        assert sorted(row["reason"] for row in held(device(user, legacy=True))) == sorted(bad.values())
        assert "1 rows cannot be imported" in bring(server, meta, "--verify-only", ok=False)
        await meta.connection.execute(f"DELETE FROM {meta.name} WHERE id = {lost}")
        bring(server, meta, "--verify-only")
    finally:
        operator(server, user, "drop", "--yes")
    assert "it is not held" in bring(server, meta, "--verify-only", ok=False)


async def test_what_was_held_is_written_with_its_times_and_once(server: Server, device: Make, meta: Log) -> None:
    user = unique("ada")
    await meta.add("big", "update", {"x": LARGE}, user_id=user, times={"x": at(3)}, created_at=at(9))
    assert counted(bring(server, meta))["held"] == 1
    assert said_to_nobody(server, "held", "export", "--user", user) == b""
    operator(server, user, "retry", "--max-change", "4MiB")
    for options in ((), ("--verify-only",)):
        counts = counted(bring(server, meta, *options))
        assert (counts["held"], counts["there"], counts["different"]) == (0, 1, 0)
    assert counted(bring(server, meta, "--max-change", "4MiB"))["there"] == 1
    ada = device(user)
    assert held(ada) == []
    assert said_to_nobody(server, "export", user) == b""
    (record,) = ada.drain()[0]
    assert (record["fields"]["x"]["at"], len(values([record])["big"]["x"])) == (at(3), len(LARGE))


async def test_rows_of_an_erased_user_are_neither_written_nor_held(server: Server, device: Make, meta: Log) -> None:
    user, canary = unique("ada"), unique("canary")
    device(user).write(edit("r", 1, x=1))
    await asyncio.to_thread(erase, server, "user", user)
    await meta.add("r", "update", {"x": canary}, user_id=user, times={"x": at(3)}, created_at=at(9))
    counts = counted(bring(server, meta))
    assert (counts["imported"], counts["held"], counts["refused"]) == (0, 0, 1)
    found = await asyncio.to_thread(lambda: (tables_with(server, canary), tables_with(server, user)))
    assert found == ([], [])


async def test_more_than_a_user_may_have_held_is_refused(server: Server, device: Make, meta: Log) -> None:
    user = unique("ada")
    for n in range(3):
        await meta.add(f"r{n}", "merge", {"x": n}, user_id=user)
    try:
        said = bring(server, meta, "--max-held", "2", ok=False)
        assert "held_full" in said
        assert (counted(said)["held"], counted(said)["refused"]) == (2, 1)
    finally:
        operator(server, user, "drop", "--yes")
