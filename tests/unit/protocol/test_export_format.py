"""An export is read strictly: every member of a line and of the manifest, and every bound met and exceeded by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from syncd.core.clock import LAST, format_instant, parse_instant
from syncd.core.errors import Malformed
from syncd.protocol.export_format import (
    FORMAT,
    GREATEST_SEQ,
    Member,
    decode_manifest,
    decode_spaces,
)
from syncd.protocol.import_lines import ImportLine, LineReader
from syncd.protocol.normalize import Limits

AT, LATER = "2026-01-01T10:00:00.000000Z", "2026-01-01T10:00:05.000000Z"
NOW = parse_instant(LATER)
EVENT = "01234567-89ab-7cde-8f01-23456789abcd"
LIMITS = Limits(max_depth=3, max_schema_version=5)


def line(**members: Any) -> dict[str, Any]:
    return {
        "appId": "app", "userId": "ann", "createdAt": AT, "eventId": EVENT, "seq": 1, "table": "t", "id": "r",
        "op": "update", "spaceId": "s", "clientId": "phone", "fields": {"x": {"value": 1, "at": AT}}, **members,
    }  # fmt: skip


def text(**members: Any) -> bytes:
    return json.dumps(line(**members)).encode()


def reader(author: str | None = None, limits: Limits = LIMITS) -> LineReader:
    return LineReader(limits, author, NOW)


def read(author: str | None = None, **members: Any) -> ImportLine:
    return reader(author).read(text(**members))


def refused(work: Any, *given: Any, **members: Any) -> Malformed:
    with pytest.raises(Malformed) as why:
        work(*given, **members)
    return why.value


def said(why: Malformed) -> tuple[str, str]:
    return why.code, why.detail


# The manifest


def manifest(**members: Any) -> bytes:
    return json.dumps(
        {"formatVersion": FORMAT, "createdAt": AT, "eventCount": 2, "eventsSha256": "ab", **members}
    ).encode()


FOLDED = {"spaceId": "s", "appId": "a", "head": 9, "horizon": 7, "forgotten": 5, "forgottenUs": 3}
BLOCK = {"userId": "ann", "blocked": "bob", "blockedAt": AT}


def test_of_a_manifest_every_member_is_read() -> None:
    told = {"userId": "ann", "scope": "all", "apps": ["a"], "spaces": [1], "spacesSha256": "cd", "cursorKey": "k",
            "folded": [FOLDED], "blocks": [BLOCK]}  # fmt: skip
    found = decode_manifest(manifest(**told))
    assert (found.formatVersion, found.createdAt, found.eventCount, found.eventsSha256) == (FORMAT, AT, 2, "ab")
    assert (found.userId, found.scope, found.apps, found.spacesSha256, found.cursorKey) == (
        "ann",
        "all",
        ["a"],
        "cd",
        "k",
    )
    assert json.loads(bytes(found.spaces)) == [1]
    (feed,), (block,) = found.folded, found.blocks
    assert (feed.space_id, feed.app_id, feed.head, feed.horizon, feed.forgotten, feed.forgotten_us) == (
        "s",
        "a",
        9,
        7,
        5,
        3,
    )
    assert (block.userId, block.blocked, block.blockedAt) == ("ann", "bob", AT)


def test_a_manifest_of_a_user_s_export_says_little() -> None:
    found = decode_manifest(manifest())
    assert (found.userId, found.scope, found.apps, found.spacesSha256, found.cursorKey) == (
        None,
        "user",
        [],
        None,
        None,
    )
    assert (bytes(found.spaces), found.folded, found.blocks) == (b"[]", [], [])
    assert decode_spaces(found) == []


@pytest.mark.parametrize("changed", [
    {}, {"forgotten": 0}, {"forgotten": 9}, {"head": GREATEST_SEQ - 1}, {"horizon": 1}, {"horizon": 9},
    {"forgottenUs": 0}, {"forgottenUs": LAST},
], ids=str)  # fmt: skip
def test_a_folded_feed_s_numbers_at_their_bounds(changed: Any) -> None:
    assert len(decode_manifest(manifest(folded=[FOLDED, {**FOLDED, **changed}])).folded) == 2


@pytest.mark.parametrize("changed", [
    {"forgotten": -1}, {"forgotten": 10}, {"head": GREATEST_SEQ}, {"horizon": 0}, {"horizon": 10},
    {"forgottenUs": -1}, {"forgottenUs": LAST + 1},
], ids=str)  # fmt: skip
def test_a_folded_feed_s_numbers_beyond_them(changed: Any) -> None:
    why = refused(decode_manifest, manifest(folded=[FOLDED, {**FOLDED, **changed}]))
    assert said(why) == ("invalid_export", "The manifest is not one: a folded feed's numbers are out of range.")


@pytest.mark.parametrize(("members", "detail"), [
    ({"blocks": [{**BLOCK, "userId": ""}]}, "an id in its blocks must not be empty."),
    ({"blocks": [BLOCK, {**BLOCK, "blocked": "a\n"}]}, "an id in its blocks must not contain control characters."),
    ({"scope": "some"}, "Invalid enum value - at `$.scope`."),
    ({"eventCount": "2"}, "Expected `int`, got `str` - at `$.eventCount`."),
    ({"folded": [{}]}, "Object missing required field `spaceId` - at `$.folded[0]`."),
], ids=str)  # fmt: skip
def test_a_manifest_at_fault_is_said_to_be(members: Any, detail: str) -> None:
    assert said(refused(decode_manifest, manifest(**members))) == (
        "invalid_export",
        f"The manifest is not one: {detail}",
    )


@pytest.mark.parametrize("raw", [
    b"", manifest()[:-1], manifest().replace(b"ab", b"a\xff"), manifest(createdAt="soon"),
    manifest(blocks=[{**BLOCK, "blockedAt": "soon"}]), b'{"spaces":' + b"[" * 5000 + b"]" * 5000 + b"}",
], ids=["nothing", "cut", "bytes", "time", "time of a block", "deep"])  # fmt: skip
def test_what_is_no_manifest_is_an_export_cut_short(raw: bytes) -> None:
    expected = "The export has no manifest at its end: it was cut short."
    assert said(refused(decode_manifest, raw)) == ("export_cut_short", expected)


@pytest.mark.parametrize("version", [FORMAT - 1, FORMAT + 1])
def test_another_format_is_not_read(version: int) -> None:
    expected = f"The export has format {version}, this server reads 1."
    assert said(refused(decode_manifest, manifest(formatVersion=version))) == ("export_too_new", expected)


# Its spaces


def space(**members: Any) -> dict[str, Any]:
    owner = {"userId": "ann", "role": "owner", "joinedAt": AT}
    return {"id": "s", "name": "S", "createdAt": AT, "members": [owner], **members}


def spaces(*given: Any) -> Any:
    return decode_spaces(decode_manifest(manifest(spaces=given)))


def test_of_a_space_every_member_is_read() -> None:
    bob = {"userId": "bob", "role": "reader", "joinedAt": LATER, "source": "external"}
    asked = {"userId": "eve", "role": "writer", "invitedBy": "ann", "invitedAt": AT}
    members = [space()["members"][0], bob]
    full = space(members=members, deletedAt=LATER, number=7, formerId="f", invitations=[asked], owners=["ann"])
    (found,) = spaces(full)
    assert (found.id, found.name, found.createdAt, found.deletedAt) == ("s", "S", AT, LATER)
    assert (found.number, found.formerId, found.owners) == (7, "f", ["ann"])
    assert found.members == [Member("ann", "owner", AT, "table"), Member("bob", "reader", LATER, "external")]
    (one,) = found.invitations
    assert (one.userId, one.role, one.invitedBy, one.invitedAt) == ("eve", "writer", "ann", AT)
    (bare,) = spaces(space())
    assert (bare.deletedAt, bare.number, bare.formerId, bare.invitations, bare.owners) == (None, None, None, [], [])


ASKED = {"userId": "eve", "role": "writer", "invitedBy": "ann", "invitedAt": AT}


@pytest.mark.parametrize("given", [
    [space(id="_personal:ann")], [space(number=1)], [space(number=(1 << 31) - 1)], [space(), space(id="u")],
    [space(id="_personal:" + "a" * 255)], [space(name="..")], [],
], ids=str)  # fmt: skip
def test_spaces_that_may_be(given: Any) -> None:
    assert [one.id for one in spaces(*given)] == [one["id"] for one in given]


@pytest.mark.parametrize(("given", "detail"), [
    ([space(), space()], "a space is there twice"),
    ([space(id="")], "an id or name must not be empty"),
    ([space(id="_personal:")], "an id or name must not be empty"),
    ([space(id="_personal:" + "a" * 256)], "an id or name must not be longer than 255 characters"),
    ([space(name="")], "an id or name must not be empty"),
    ([space(formerId="")], "an id or name must not be empty"),
    ([space(members=[{"userId": "a\n", "role": "owner", "joinedAt": AT}])],
    "an id or name must not contain control characters"),
    ([space(invitations=[{**ASKED, "userId": ""}])], "an id or name must not be empty"),
    ([space(invitations=[{**ASKED, "invitedBy": ""}])], "an id or name must not be empty"),
    ([space(owners=["ann", ""])], "an id or name must not be empty"),
    ([space(number=0)], "a space's number is out of range"),
    ([space(), space(id="u", number=1 << 31)], "a space's number is out of range"),
    ([space(role="owner", members=[{"userId": "a", "role": "admin", "joinedAt": AT}])],
     "role has to be one of owner, writer, reader - at `$[0].members[0].role`"),
    ([5], "Expected `object`, got `int` - at `$[0]`"),
], ids=str)  # fmt: skip
def test_spaces_at_fault_are_said_to_be(given: Any, detail: str) -> None:
    assert said(refused(spaces, *given)) == ("invalid_export", f"The manifest's spaces: {detail}.")


@pytest.mark.parametrize("given", [
    space(createdAt="soon"), space(deletedAt="soon"), space(invitations=[{**ASKED, "invitedAt": "soon"}]),
    space(members=[{"userId": "ann", "role": "owner", "joinedAt": "soon"}]), space(name="a\0b"),
], ids=str)  # fmt: skip
def test_every_time_of_a_space_has_to_be_one_and_every_text_a_text(given: Any) -> None:
    why = refused(spaces, space(id="u"), given)
    assert why.code == "invalid_export"
    assert why.detail.startswith("The manifest's spaces: ")


# A line


def test_of_a_line_everything_is_kept() -> None:
    fields = {"x": {"value": [1], "at": AT, "sent": LATER}, "y": {"value": 2, "at": LATER, "movedTo": "u"}}
    found = read(
        fields=fields, changeId="k", schemaVersion=5, actor={"n": 1}, origin="o", op="insert", seq=3, pushEnd=4
    )
    row = found.row
    assert (found.number, found.after, found.push) == (1, 0, ("s", "app", 4))
    assert (row.r, row.o, row.c, row.e) == ("r", 1, "k", EVENT)
    assert (row.lo, row.hi, row.v, row.a, row.n, row.p) == (parse_instant(AT), NOW, 5, '{"n": 1}', "o", False)
    log = {name: (json.loads(bytes(one.value)), one.at, one.sent, one.movedTo) for name, one in row.f.items()}
    assert log == {"x": ([1], AT, LATER, UNSET), "y": (2, LATER, UNSET, "u")}
    state = {name: (json.loads(bytes(one.value)), one.at, one.sent, one.movedTo) for name, one in row.g.items()}
    assert state == log
    assert {one.clientId for one in row.g.values()} == {"phone"}
    line = found.line
    assert (line.appId, line.userId, line.createdAt, line.table, line.spaceId, line.clientId) == (
        "app", "ann", AT, "t", "s", "phone"
    )  # fmt: skip


def test_a_line_says_no_more_than_it_has_to() -> None:
    found = read()
    assert found.push == ("s", "app", 1)
    assert (found.row.v, found.row.a, found.row.n, found.row.p) == (None, None, None, False)
    assert (found.line.pushEnd, found.line.changeId, found.line.contentId) == (None, None, None)


@pytest.mark.parametrize(("members", "known"), [
    ({"changeId": "k"}, "k"), ({"changeId": "k", "contentId": "c"}, "k"), ({"contentId": "aZ-_9"}, "\x01aZ-_9"),
    ({}, f"\x02{EVENT}"), ({"contentId": "c" * 64}, "\x01" + "c" * 64),
])  # fmt: skip
def test_a_change_is_known_by_its_id_its_content_or_its_event(members: Any, known: str) -> None:
    assert read(**members).row.c == known


@pytest.mark.parametrize(("op", "number"), [("insert", 1), ("update", 2), ("delete", 3)])
def test_each_operation_has_its_number(op: str, number: int) -> None:
    assert read(op=op).row.o == number


def test_registers_of_other_devices_are_those_that_it_merged_with() -> None:
    fields = {"x": {"value": 1, "at": AT, "clientId": "other"}, "y": {"value": 2, "at": AT}}
    assert set(read(fields=fields).row.f) == {"y"}
    found = read(fields=fields, superseded={"x": {"value": 9, "at": LATER}})
    assert {name: json.loads(bytes(one.value)) for name, one in found.row.f.items()} == {"x": 9, "y": 2}
    assert found.row.hi == NOW
    why = refused(read, fields={"x": {"value": 1, "at": AT, "clientId": "other"}})
    assert said(why) == ("empty_change", "no register of its own")
    assert refused(read, fields={}).code == "empty_change"


def test_of_a_folded_log_what_is_missing_is_noted_in_an_export_of_everybody_s() -> None:
    husk = {"h": {"value": None, "at": LATER, "clientId": "tablet", "sent": AT}, "x": {"value": None, "at": LATER},
            "i": {"value": None, "at": AT}}  # fmt: skip
    found = read(folded=True, husk=husk)
    assert (found.row.p, set(found.row.f), set(found.row.g)) == (True, {"x"}, {"x", "h", "i"})
    h, x, i = (found.row.g[name] for name in "hxi")
    assert (bytes(h.value), h.at, h.clientId, h.sent) == (b"null", LATER, "tablet", AT)
    assert (bytes(x.value), x.at, x.clientId) == (b"1", AT, "phone"), "its own register is not a husk's"
    assert i.clientId == "phone"
    assert (found.row.lo, found.row.hi) == (parse_instant(AT), NOW)
    own = read("ann", folded=True, husk=husk)
    assert (own.row.p, set(own.row.g), own.row.hi) == (False, {"x"}, parse_instant(AT))


@pytest.mark.parametrize("husk", [{"value": 1, "at": AT}, {"value": None, "at": AT, "clientId": ""}])
def test_a_husk_has_no_values_and_was_written_by_a_device(husk: Any) -> None:
    expected = ("invalid_change", "a husk's register has a value, or no device's id")
    assert said(refused(read, husk={"h": husk})) == expected


def test_a_stamp_may_be_of_now_and_not_later() -> None:
    ahead = {"value": None, "at": format_instant(NOW + 1)}
    assert read(fields={"x": {"value": 1, "at": LATER}}).row.hi == NOW
    for members in ({"fields": {"x": ahead}}, {"superseded": {"y": ahead}}, {"husk": {"y": ahead}}):
        assert said(refused(read, **members)) == ("stamp_ahead", "a stamp is ahead of this server's clock")


def test_a_schema_version_may_be_the_newest_and_not_newer() -> None:
    assert read(schemaVersion=5).row.v == 5
    why = refused(read, schemaVersion=6)
    assert said(why) == ("schema_too_new", "a newer schema version than this server takes")
    plain = reader(limits=Limits())
    assert plain.read(text(schemaVersion=(1 << 31) - 1)).row.v == (1 << 31) - 1
    why = refused(plain.read, text(seq=2, schemaVersion=1 << 31))
    assert (why.code, why.faults[0].pointer) == ("invalid_change", "/line/schemaVersion")


@pytest.mark.parametrize(("members", "detail"), [
    ({"appId": ""}, "appId must not be empty"), ({"userId": ""}, "userId must not be empty"),
    ({"table": ""}, "table must not be empty"), ({"id": ""}, "id must not be empty"),
    ({"spaceId": ""}, "spaceId must not be empty"),
    ({"clientId": ""}, "clientId must not be empty"), ({"changeId": ""}, "changeId must not be empty"),
    ({"spaceId": "_personal:" + "b" * 250}, "spaceId must not be longer than 255 characters"),
    ({"eventId": EVENT[:-1]}, "eventId or contentId is not one"),
    ({"eventId": EVENT.upper()}, "eventId or contentId is not one"),
    ({"contentId": ""}, "eventId or contentId is not one"),
    ({"contentId": "c" * 65}, "eventId or contentId is not one"),
    ({"contentId": "c="}, "eventId or contentId is not one"),
    ({"seq": 0}, "seq or pushEnd is out of range"), ({"seq": GREATEST_SEQ}, "seq or pushEnd is out of range"),
    ({"seq": 2, "pushEnd": 1}, "seq or pushEnd is out of range"),
    ({"pushEnd": GREATEST_SEQ}, "seq or pushEnd is out of range"),
    ({"createdAt": "soon"}, "createdAt: not an RFC 3339 instant such as 2026-01-01T10:05:00.123Z"),
    ({"fields": {"x": {"value": 1, "at": "soon"}}}, "x: not an RFC 3339 instant such as 2026-01-01T10:05:00.123Z"),
    ({"fields": {"x": {"value": 1, "at": AT, "sent": "soon"}}},
    "x: not an RFC 3339 instant such as 2026-01-01T10:05:00.123Z"),
    ({"fields": {"": {"value": 1, "at": AT}}}, "a field name must not be empty"),
    ({"op": "upset"}, "not a change: op has to be one of insert, update, delete - at `$.op`"),
    ({"seq": "1"}, "not a change: Expected `int`, got `str` - at `$.seq`"),
], ids=str)  # fmt: skip
def test_a_line_at_fault_is_said_to_be(members: Any, detail: str) -> None:
    assert said(refused(read, **members)) == ("invalid_change", detail)


@pytest.mark.parametrize("members", [
    {"seq": GREATEST_SEQ - 1}, {"seq": 2, "pushEnd": 2}, {"pushEnd": GREATEST_SEQ - 1}, {"contentId": "c" * 64},
    {"userId": "a" * 250, "spaceId": "_personal:" + "a" * 250},
], ids=str)  # fmt: skip
def test_a_line_at_its_bounds_is_read(members: Any) -> None:
    assert read(**members).line.seq == members.get("seq", 1)


@pytest.mark.parametrize(("members", "detail"), [
    ({"fields": {"x": {"value": [[[[]]]], "at": AT}}}, "nested deeper than 3"),
    ({"superseded": {"x": {"value": [[[[]]]], "at": AT}}}, "nested deeper than 3"),
    ({"actor": [[[[]]]]}, "nested deeper than 3"),
    ({"origin": "a\0b"}, "\\u0000 cannot be stored"),
])  # fmt: skip
def test_a_value_that_cannot_be_kept_is_said_to_be(members: Any, detail: str) -> None:
    assert said(refused(read, **members)) == ("invalid_value", detail)
    assert read(actor=[[[]]]).row.a == "[[[]]]"


@pytest.mark.parametrize(
    "raw", [b"", b"5", text()[:-1], text().replace(b'"ann"', b'"a\xff"'), b"[" * 5000 + b"]" * 5000]
)
def test_what_is_no_line_is_said_to_be_none(raw: bytes) -> None:
    why = refused(reader().read, raw)
    assert why.code == "invalid_change"
    assert why.detail.startswith("not a change: ")


def test_the_lines_are_counted_also_those_at_fault() -> None:
    lines = reader()
    assert lines.number == 0
    refused(lines.read, b"")
    assert lines.read(text(seq=1)).number == 2
    assert lines.number == 2


def test_who_imports_their_own_takes_nobody_else_s() -> None:
    lines = reader("bob")
    assert said(refused(lines.read, text())) == ("foreign_author", "written by another user")
    assert lines.read(text(userId="bob")).line.userId == "bob"


def test_lines_come_by_space_app_and_seq() -> None:
    lines = reader()
    places = [("s", "app", 1), ("s", "app", 2), ("s", "app", 9), ("s", "b", 3), ("t", "app", 2), ("t", "app", 3)]
    after = [lines.read(text(spaceId=s, appId=a, seq=n)).after for s, a, n in places]
    assert after == [0, 1, 2, 0, 0, 2]
    for place in (("t", "app", 3), ("t", "app", 2), ("t", "aa", 9), ("s", "z", 9)):
        why = refused(lines.read, text(spaceId=place[0], appId=place[1], seq=place[2]))
        assert said(why) == ("invalid_change", "not in the order of an export: by space, app and seq")
    assert lines.read(text(spaceId="t", appId="app", seq=4)).after == 3
