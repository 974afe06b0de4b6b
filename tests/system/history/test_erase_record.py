"""G25: a record that is erased has no value anywhere, on any device that synced since, and nothing brings one back."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from syncd_client import Replica

from tests.support.backups import line, restore, signed
from tests.support.compacting import ALL, compact_now
from tests.support.erasing import (
    ask,
    checked,
    dead,
    erase,
    kill_while_it_waits,
    killed_at_each_step,
    outcomes,
    tables_with,
    until,
)
from tests.support.harness import Server
from tests.support.holding import outcomes as held_outcomes
from tests.support.past import address, history
from tests.support.wire import Device, Json, ahead, at, edit, unique, values

Make = Callable[..., Device]


@pytest.fixture(scope="module")
def alone(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "erasing") as server:
        yield server


@pytest.fixture
def make(alone: Server) -> Iterator[Make]:
    with httpx.Client(base_url=alone.url, timeout=300) as http:
        yield lambda user, client="c1", **more: Device(http, alone, user, client, **more)


class Scene:
    """A space of two with a record full of canaries, and one beside it."""

    def __init__(self, server: Server, make: Make) -> None:
        # one server has many scenes, and most leave something
        self.server, self.canary = server, unique("canary")
        self.ada, self.bob = make(unique("ada")), make(unique("bob"), "c2")
        self.space = self.ada.create(unique("space"))
        self.ada.member(self.space, self.bob.user)
        self.write(self.ada, edit("secret", 50, change_id="first", title=self.canary, body={"deep": [self.canary]}))
        self.write(self.ada, edit("kept", 50, title="tea"))
        self.write(
            self.bob,
            {**edit("secret", 60, body=f"more {self.canary}"), "actor": {"who": self.canary}, "origin": self.canary},
        )
        assert (
            self.bob.push(self.of(edit("secret", 10, title=f"late {self.canary}")))["results"][0]["status"]
            == "superseded"
        )

    def of(self, change: Json) -> Json:
        return {**change, "spaceId": self.space}

    def write(self, device: Device, *changes: Json) -> None:
        device.write(*map(self.of, changes))

    def erase(self, **more: bool) -> str:
        return erase(self.server, "record", self.space, "t", "secret", "--app", "app", **more)

    def history(self) -> list[Json]:
        return history(self.ada, self.space, "secret")


@pytest.fixture
def scene(alone: Server, make: Make) -> Scene:
    return Scene(alone, make)


def test_no_value_is_left_and_all_else_is_as_it_was(scene: Scene) -> None:
    before = scene.ada.drain(history=1)[0]
    assert tables_with(scene.server, scene.canary) != []
    facts = checked(scene.server, scene.erase())
    assert tables_with(scene.server, scene.canary) == []
    assert (facts["what"], facts["record_id"], facts["counts"]["records"]) == ("record", "secret", 1)
    assert scene.canary not in str(facts)
    after = scene.ada.drain(history=1)[0]
    assert [change["seq"] for change in after[: len(before)]] == [change["seq"] for change in before]
    stamps = [{name: register["at"] for name, register in change["fields"].items()} for change in before]
    assert [{n: r["at"] for n, r in change["fields"].items()} for change in after[: len(before)]] == stamps
    [told] = after[len(before) :]
    assert (told["op"], told["id"], told["fields"]["title"]["value"]) == ("delete", "secret", None)
    assert values(scene.bob.drain()[0]) == {"kept": {"title": "tea"}}
    past = scene.history()
    assert len(past) == 4
    assert scene.canary not in str(past)
    assert all(register["erased"] for change in past for register in change["fields"].values())
    again = checked(scene.server, scene.erase())
    assert again["counts"] == facts["counts"]


def test_an_operator_s_audit_and_the_list_have_it_without_values(scene: Scene) -> None:
    scene.erase()
    listed = erase(scene.server, "list")
    assert '"record_id":"secret"' in listed
    assert scene.canary not in listed
    noted = ask(scene.server, "SELECT detail ->> 'changes' FROM syncd.sync_audit WHERE what = 'record_erased'")
    assert ("4",) in noted or ("3",) in noted


def test_what_is_written_later_is_refused_alone_and_a_repeated_push_is_known(scene: Scene, make: Make) -> None:
    scene.erase()
    first = scene.of(edit("secret", 50, change_id="first", title=scene.canary, body={"deep": [scene.canary]}))
    assert [r["status"] for r in scene.ada.push(first)["results"]] == ["duplicate"]
    insert = {**edit("secret", ahead(5), title=scene.canary), "op": "insert"}
    for late in (edit("secret", 70, title=scene.canary), edit("secret", ahead(5), title=scene.canary), insert):
        pushed = scene.bob.push(scene.of(late), scene.of(edit("kept", ahead(9), title="coffee")))
        assert outcomes(pushed) == ["record_forgotten", "applied"]
    many = [scene.of(edit("secret", 100 + n, title=scene.canary)) for n in range(3)] + [scene.of(edit("more", 9, x=1))]
    assert outcomes(scene.bob.push(*many)) == ["record_forgotten"] * 3 + ["applied"]
    old = make(scene.bob.user, "old", legacy=True)
    late, other = edit("secret", ahead(9), change_id=None, title=scene.canary), edit("kept", ahead(9), x=1)
    pushed = old.push(scene.of(late), scene.of(other))
    assert outcomes(pushed) == ["record_forgotten", "applied"]
    assert "held" not in pushed["results"][0]
    assert values(scene.ada.drain()[0])["kept"]["x"] == 1
    assert tables_with(scene.server, scene.canary) == []


def test_a_space_goes_back_without_what_was_erased(scene: Scene) -> None:
    seq = scene.ada.drain(history=1)[0][-1]["seq"]
    scene.erase()
    scene.write(scene.ada, edit("kept", ahead(1), title="coffee"))
    answer = scene.ada.request("POST", f"/sync/app/spaces/{scene.space}/restore", json={"seq": seq})
    assert answer.status_code == 200, answer.text
    assert values(scene.ada.drain()[0]) == {"kept": {"title": "tea", "deletedAt": None}}
    answer = scene.ada.request("POST", address(scene.space, "secret", what="/restore"), json={"seq": seq})
    assert answer.json()["code"] == "history_gone"


def test_what_is_held_goes_and_is_not_held_again(scene: Scene, make: Make) -> None:
    old = make(unique("eve"), "old", legacy=True)
    stranger = scene.of(edit("secret", 70, change_id=None, title=scene.canary))
    assert held_outcomes(old.push(stranger)) == ["space_not_found"]
    scene.erase()
    assert tables_with(scene.server, scene.canary) == []
    old.push(stranger)
    assert tables_with(scene.server, scene.canary) == []


def test_a_message_that_a_webhook_never_took_has_no_value_of_it(scene: Scene) -> None:
    dead(scene.server, scene.canary, space=scene.space, app="app", table="t", id="secret", user=scene.ada.user)
    dead(scene.server, "kept", space=scene.space, app="app", table="t", id="kept", user=scene.ada.user)
    facts = checked(scene.server, scene.erase())
    assert facts["counts"]["messages"] == 1
    assert tables_with(scene.server, scene.canary) == []
    assert tables_with(scene.server, '"text": "kept"') == ["sync_webhook_dead"]


def test_a_copy_for_reports_follows_at_once(scene: Scene) -> None:
    body = '{"properties": {"title": {"type": "string", "x-index": true}}}'
    ask(scene.server, f"SELECT syncd.sync_schema_put('app', 't', '{body}')")
    command = [sys.executable, "-m", "syncd", "views", "apply", "--database-url", scene.server.owner_dsn]
    subprocess.run(command, check=True, capture_output=True, timeout=120)

    def filled() -> bool:
        ask(scene.server, "SELECT syncd.sync_projections_fill(NULL, 1000)")
        return any(name.startswith("sync_projection_") for name in tables_with(scene.server, scene.canary))

    until(filled)
    scene.erase()
    assert tables_with(scene.server, scene.canary) == []


def test_devices_drop_it_live_and_later_the_first_generation_too(scene: Scene, make: Make, folder: Path) -> None:
    old = make(scene.bob.user, "old", legacy=True)
    since = old.drain()[1]
    with (
        Replica(folder / "live", app="app", url=scene.server.url, token=scene.server.token(scene.ada.user)) as live,
        Replica(folder / "later", app="app", url=scene.server.url, token=scene.server.token(scene.bob.user)) as later,
    ):
        later.sync()
        later.patch("t", "secret", {"title": f"unsent {scene.canary}"}, space=scene.space)
        later.patch("t", "kept", {"title": "mine"}, space=scene.space)
        with live.live():
            until(lambda: live.get("t", "secret", space=scene.space) is not None)
            scene.erase()
            until(lambda: live.get("t", "secret", space=scene.space) is None)
        later.sync()
        assert later.get("t", "secret", space=scene.space) is None
        assert [(change.id, change.code) for change in later.rejected()] == [("secret", "record_forgotten")]
        later.drop(later.rejected()[0].change_id)
        assert later.conflicts() == []
        assert dict(later.query("t", space=scene.space)[0]) == {"title": "mine"}
        for replica in (live, later):
            assert replica.verify().repaired == 0
    left = [file for file in folder.iterdir() if scene.canary.encode() in file.read_bytes()]
    assert left == []
    told = {change["id"]: change for change in old.drain(since)[0]}
    assert (told["secret"]["op"], scene.canary in str(told)) == ("delete", False)
    assert "kept" in told


def test_a_backup_of_a_user_brings_nothing_back(scene: Scene) -> None:
    backup = scene.ada.request("GET", "/backup/export", headers={"accept": "application/x-ndjson"}).content
    assert scene.canary.encode() in backup
    scene.erase()
    answer = scene.ada.request(
        "POST", "/backup/import", content=backup, headers={"content-type": "application/x-ndjson"}
    )
    assert answer.status_code == 200, answer.text
    assert scene.canary not in str(scene.ada.drain(history=1)[0])
    gone = {"value": at(2), "at": at(2), "erased": True}
    forged = line(
        scene.ada.user, 1, op="delete", id="forged", deletedAt=at(2), fields={"deletedAt": gone}, changeId="f"
    )
    assert restore(scene.ada, signed([forged]))["refusals"] == []
    assert outcomes(scene.ada.push(edit("forged", 9, x=1))) == ["applied"]


def test_an_erased_personal_record_does_not_move(scene: Scene, make: Make) -> None:
    old, own = make(scene.ada.user, "old", legacy=True), unique("own-canary")
    old.push(edit("moving", 5, change_id=None, x=own))
    erase(scene.server, "record", f"_personal:{scene.ada.user}", "t", "moving", "--app", "app")
    assert outcomes(old.push(scene.of(edit("moving", ahead(1), change_id=None, x="other")))) == ["applied"]
    assert outcomes(old.push(edit("moving", ahead(2), change_id=None, x=own))) == ["record_forgotten"]
    assert values(scene.bob.drain()[0])["moving"]["x"] == "other"
    assert tables_with(scene.server, own) == []


def test_a_device_that_has_not_heard_of_a_move_is_not_stuck(scene: Scene, make: Make) -> None:
    old, ours = make(scene.ada.user, "old", legacy=True), make(scene.ada.user, "c5")
    old.push(edit("wander", 5, change_id=None, x=1))
    old.push(scene.of(edit("wander", 9, change_id=None, x=2)))
    assert values(scene.bob.drain()[0])["wander"] == {"x": 2}
    erase(scene.server, "record", scene.space, "t", "wander", "--app", "app")
    pushed = ours.push(edit("wander", ahead(1), x=3), edit("beside", ahead(1), x=4))
    assert outcomes(pushed) == ["record_forgotten", "applied"]


def test_a_record_that_moved_is_erased_where_it_was_too(scene: Scene, make: Make) -> None:
    old, own = make(scene.ada.user, "old", legacy=True), unique("own-canary")
    old.push(edit("wander", 5, change_id=None, x=own, y=own))
    old.push(scene.of(edit("wander", 9, change_id=None, x=2)))
    assert values(scene.bob.drain()[0])["wander"] == {"x": 2, "y": own}
    receipts = erase(scene.server, "record", scene.space, "t", "wander", "--app", "app").splitlines()
    places = [checked(scene.server, receipt)["space_id"] for receipt in receipts]
    assert places == [scene.space, f"_personal:{scene.ada.user}"]
    assert tables_with(scene.server, own) == []
    ours = make(scene.ada.user, "c5")
    assert outcomes(ours.push(edit("wander", ahead(1), x=own))) == ["record_forgotten"]
    again = erase(scene.server, "record", scene.space, "t", "wander", "--app", "app").splitlines()
    assert again == receipts[:1]


def test_where_a_moved_record_was_is_erased_after_an_interruption(scene: Scene, make: Make) -> None:
    old, own = make(scene.ada.user, "old", legacy=True), unique("own-canary")
    old.push(edit("wander", 5, change_id=None, x=own))
    old.push(scene.of(edit("wander", 9, change_id=None, x=2)))
    first = f"syncd.sync_erase_record('{scene.space}', 'app', 't', 'wander')"
    # the first is done, the second stands emptied in the state, and has its values in the log
    ask(scene.server, f"SELECT syncd.sync_erase_bury(x) FROM unnest(syncd.sync_erase_moved({first})) x")
    assert tables_with(scene.server, own) != []
    assert len(erase(scene.server, "record", scene.space, "t", "wander", "--app", "app").splitlines()) == 2
    assert tables_with(scene.server, own) == []


def test_it_stays_erased_where_tombstones_are_forgotten(scene: Scene) -> None:
    scene.write(scene.ada, {"table": "t", "id": "gone", "op": "delete", "deletedAt": at(90), "changeId": unique("k")})
    scene.erase()
    assert compact_now(scene.server.owner_dsn, scene.space, tombstones=ALL).forgotten == 1
    assert outcomes(scene.bob.push(scene.of(edit("secret", ahead(9), title=scene.canary)))) == ["record_forgotten"]
    assert values(scene.bob.drain()[0]) == {"kept": {"title": "tea"}}


def test_pushes_go_on_meanwhile_and_leave_nothing(scene: Scene, make: Make) -> None:
    over = threading.Event()

    def push(client: str) -> list[str]:
        device, codes = make(scene.bob.user, client), []
        for n in itertools.count(100):
            if over.is_set():
                return codes
            changes = [scene.of(edit("secret", n, body=scene.canary)), scene.of(edit("kept", n, **{client: n}))]
            codes += outcomes(device.push(*changes[: 1 + n % 2]))
        raise AssertionError

    with ThreadPoolExecutor(4) as pool:
        pushing = [pool.submit(push, f"writer{n}") for n in range(4)]
        until(lambda: any("writer3" in record for record in values(scene.ada.drain()[0]).values()))
        scene.erase()
        over.set()
        codes = [code for one in pushing for code in one.result()]
    assert set(codes) <= {"applied", "superseded", "record_forgotten"}
    assert tables_with(scene.server, scene.canary) == []
    assert values(scene.ada.drain()[0]).keys() == {"kept"}
    assert values(scene.ada.drain(history=1)[0]).keys() == {"kept"}


def test_killed_in_the_middle_it_ends_the_same(scene: Scene) -> None:
    """The changes are emptied and what is held is not: the command is killed there, and begun again."""
    lock = "LOCK TABLE syncd.sync_webhook_dead IN ACCESS EXCLUSIVE MODE"
    kill_while_it_waits(scene.server, lock, "record", scene.space, "t", "secret", "--app", "app")
    found = ask(scene.server, f"SELECT done_at FROM syncd.sync_erasures WHERE space_id = '{scene.space}'")
    assert found == [(None,)]
    facts = checked(scene.server, scene.erase())
    assert facts["counts"]["records"] == 1
    assert tables_with(scene.server, scene.canary) == []


@pytest.mark.waits
@pytest.mark.parametrize("how", ["after", "within"])
def test_killed_at_each_step_it_ends_the_same(scene: Scene, how: str) -> None:
    kills, receipt = killed_at_each_step(scene.server, how, "record", scene.space, "t", "secret", "--app", "app")
    assert kills >= 5
    assert checked(scene.server, receipt)["counts"]["records"] == 1
    assert tables_with(scene.server, scene.canary) == []
    noted = f"SELECT count(*), count(done_at) FROM syncd.sync_erasures WHERE space_id = '{scene.space}'"
    assert ask(scene.server, noted) == [(1, 1)]


@pytest.mark.parametrize("when", ["buried", "half"])
def test_one_that_stopped_between_two_steps_goes_on(scene: Scene, when: str) -> None:
    ask(
        scene.server,
        f"SELECT syncd.sync_erase_bury(syncd.sync_erase_record('{scene.space}', 'app', 't', 'secret'))",
    )
    if when == "half":
        ask(
            scene.server,
            "SELECT syncd.sync_erase_log(e.ordinal, f.space_no, f.app_no, 0, 2, f.head) FROM syncd.sync_erasures e, "
            f"syncd.sync_feeds f JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id = '{scene.space}' "
            "AND e.space_id = s.space_id",
        )
    assert tables_with(scene.server, scene.canary) != []
    facts = checked(scene.server, scene.erase())
    assert facts["counts"]["records"] == 1
    assert tables_with(scene.server, scene.canary) == []


def test_what_is_not_there_is_said(alone: Server, scene: Scene) -> None:
    said = erase(alone, "record", scene.space, "t", "nobody", "--app", "app", ok=False)
    assert "there is no such record" in said
    receipt = scene.erase()
    assert "no receipt" in erase(alone, "check", receipt[:-4] + "AAAA", ok=False)
    token = alone.token("ada")
    assert "no receipt" in erase(alone, "check", token, ok=False)
    with httpx.Client(base_url=alone.url) as http:
        assert http.get("/spaces", headers={"authorization": f"Bearer {receipt}"}).status_code == 401
