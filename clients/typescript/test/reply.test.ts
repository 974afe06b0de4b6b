/** Answers of the server: what they say, and what is none of the protocol and is refused whole. */

import { describe, expect, it } from "vitest";
import type { Packed } from "../src/data/change.js";
import { BadReply, type Json, type JsonObject } from "../src/index.js";
import { blamedIn } from "../src/sync/blamed.js";
import { buildPage, parseReply, readConflict, readPage, readProblem } from "../src/sync/reply.js";
import { delay, parseRetryAfter, passes } from "../src/sync/retry.js";

const AT = "2026-01-01T10:00:00.000000Z";
const PAGE = { serverChanges: [], syncedUntil: "c1" };
const RESULT = { changeId: "c", status: "applied" };
const UNSAID = { code: "rejected", detail: "", field: null };

function packed(...ids: string[]): Packed[] {
  return ids.map((changeId) => ({ changeId, batch: changeId, body: "{}", size: 2, space: "" }));
}

function read(wire: Json, ...ids: string[]): ReturnType<typeof readPage> {
  return readPage(JSON.stringify(wire), packed(...ids));
}

describe("a page", () => {
  it("may leave out all but its cursor", () => {
    expect(read({ syncedUntil: "c1" })).toMatchObject({
      changes: [],
      cursor: "c1",
      more: false,
      joined: [],
      left: [],
      unreadable: [],
      results: [],
    });
    expect(read({ ...PAGE, hasMore: 1 }).more).toBe(false);
    expect(read({ ...PAGE, hasMore: true }).more).toBe(true);
  });

  it("says of spaces and changes what it says", () => {
    const spaces = { joined: ["a"], left: ["b"], unreadable: ["c"] };
    const change = { changeId: "x", table: "t", id: "r", op: "update", clientId: "w" };
    const { joined, left, unreadable, changes } = read({ ...PAGE, spaces, serverChanges: [change] });
    expect([joined, left, unreadable]).toEqual([["a"], ["b"], ["c"]]);
    expect(changes.map(({ changeId }) => changeId)).toEqual(["x"]);
  });

  it.each<[string, Json, string[]]>([
    ["no cursor", { serverChanges: [] }, []],
    ["a cursor that is a number", { ...PAGE, syncedUntil: 1 }, []],
    ["changes that are no list", { ...PAGE, serverChanges: {} }, []],
    ["one change that is none", { ...PAGE, serverChanges: [{ op: "update" }] }, []],
    ["spaces that are a list", { ...PAGE, spaces: [] }, []],
    ["a space that is no text", { ...PAGE, spaces: { joined: [1] } }, []],
    ["a space that was left and is no text", { ...PAGE, spaces: { left: [1] } }, []],
    ["an unreadable space that is no text", { ...PAGE, spaces: { unreadable: [1] } }, []],
    ["a result too few", { ...PAGE, results: [] }, ["c"]],
    ["a result too many", { ...PAGE, results: [RESULT, RESULT] }, ["c"]],
    ["results of a pull", { ...PAGE, results: [RESULT] }, []],
    ["a result of another change", { ...PAGE, results: [{ ...RESULT, changeId: "d" }] }, ["c"]],
    ["an unknown status", { ...PAGE, results: [{ changeId: "c", status: "taken" }] }, ["c"]],
    ["a result that is none", { ...PAGE, results: [null] }, ["c"]],
    ["stamps that are a list", { ...PAGE, results: [{ ...RESULT, at: [] }] }, ["c"]],
    ["a stamp that is none", { ...PAGE, results: [{ ...RESULT, at: { n: "soon" } }] }, ["c"]],
    ["no object", [PAGE], []],
  ])("is refused with %s", (_, wire, ids) => {
    expect(() => read(wire, ...ids)).toThrow(BadReply);
    expect(() => read(wire, ...ids)).toThrow(expect.objectContaining({ garbled: false, code: "bad_reply" }));
  });

  it("that is cut is told from one that is wrong, because it may be asked for again", () => {
    expect(() => parseReply('{"a')).toThrow(expect.objectContaining({ garbled: true, code: "bad_reply" }));
    expect(parseReply("[1]")).toEqual([1]);
  });

  it("has a result for each change, in their order, and stamps that were lowered", () => {
    const said = [
      { status: "superseded", at: { n: "2026-01-01T10:00:00Z" } },
      { ...RESULT, changeId: "d" },
    ];
    const { results } = read({ ...PAGE, results: said }, "c", "d");
    expect(results).toEqual([
      { changeId: "c", status: "superseded", at: new Map([["n", AT]]), ...UNSAID },
      { changeId: "d", status: "applied", at: new Map(), ...UNSAID },
    ]);
    const refusal = { status: "rejected", code: "not_a_writer", detail: "You read.", field: "title" };
    expect(read({ ...PAGE, results: [refusal] }, "c").results[0]).toMatchObject(refusal);
  });

  it.each<[string, JsonObject]>([
    ["without a table", { id: "r" }],
    ["without an id", { table: "t" }],
  ])("has no conflict %s", (_, said) => {
    expect(() => readConflict(said)).toThrow(BadReply);
  });

  it.each<[string, JsonObject, string | null]>([
    ["no space", {}, null],
    ["the personal one", { spaceId: "_personal:u" }, null],
    ["a shared one", { spaceId: "s" }, "s"],
  ])("has conflicts of %s", (_, place, space) => {
    const lost = { table: "t", id: "r", field: "n", clientValue: 1, serverValue: 2, by: "phone" };
    expect(readConflict({ ...lost, ...place })).toEqual({ kind: "lost", mine: 1, theirs: 2, ...lost, space });
  });

  it("of a frame may have no cursor", () => {
    expect(buildPage({}, [], null, true)).toMatchObject({ cursor: null, more: true, changes: [] });
  });
});

describe("a refusal", () => {
  const BODY = { code: "invalid_value", detail: "No.", title: "Invalid" };
  const blamed = (...errors: Json[]): object =>
    Object.fromEntries(blamedIn(readProblem(400, JSON.stringify({ ...BODY, errors }))));

  it("has a code and a sentence", () => {
    expect(readProblem(400, JSON.stringify(BODY))).toEqual({
      status: 400,
      code: "invalid_value",
      detail: "No.",
      errors: [],
    });
    expect(readProblem(400, JSON.stringify({ code: "x", title: "T" })).detail).toBe("T");
    expect(readProblem(400, JSON.stringify({ code: "x" })).detail).toBe("");
  });

  it.each(["<html>", "[]", "{}", '{"code":7}', '{"code":"x","errors":{}}', ""])(
    "that is not syncd's is named by its status: %s",
    (body) => {
      const { status, code, errors } = readProblem(502, body);
      expect([status, code, errors]).toEqual([502, "http_502", []]);
    },
  );

  it.each([
    ["/changes/0", 0],
    ["/changes/12", 12],
    ["/changes/3/fields/n", 3],
  ])("blames by the pointer %s the change %d", (pointer, place) => {
    expect(blamed({ pointer })).toEqual({ [place]: { code: "invalid_value", detail: `No. (${pointer})` } });
  });

  it.each([
    "",
    "/clientId",
    "/changes",
    "/changes/",
    "/changes/x",
    "/changes/1x",
    "x/changes/1",
    "/changes/-1",
  ])("blames nobody by the pointer %j", (pointer) => {
    expect(blamed({ pointer })).toEqual({});
  });

  it("says of each change first what is said first, and more than of the whole", () => {
    const errors = [
      { pointer: "/changes/1/a", code: "first", detail: "One." },
      { pointer: "/changes/1/b", code: "second", detail: "Two." },
      { pointer: "/changes/0" },
      {},
    ];
    expect(blamed(...errors)).toEqual({
      0: { code: "invalid_value", detail: "No. (/changes/0)" },
      1: { code: "first", detail: "One. (/changes/1/a)" },
    });
  });
});

describe("when to try again", () => {
  const POLICY = { attempts: 4, first: 100, longest: 350, patience: 1000 };

  it.each<[number, number | null, number, number | null]>([
    [1, null, 1, 100],
    [2, null, 1, 200],
    [3, null, 1, 350],
    [3, null, 0.5, 175],
    [4, null, 1, null],
    [5, null, 1, null],
    [1, null, 0, 0],
    [1, 1000, 1, 1100],
    [3, 1000, 1, 1100],
    [3, 1000, 0.1, 1035],
    [1, 1001, 1, null],
    [1, 0, 1, 100],
  ])("after attempt %d, told %s, at chance %d: %s", (attempt, told, chance, pause) => {
    expect(delay(POLICY, attempt, told, chance)).toBe(pause);
  });

  it.each<[number, boolean]>([
    [400, false],
    [401, false],
    [408, true],
    [409, false],
    [425, true],
    [429, true],
    [499, false],
    [500, true],
    [503, true],
    [506, true],
    [507, false],
    [508, true],
  ])("whether %d passes by itself: %s", (status, itself) => {
    expect(passes(status)).toBe(itself);
  });

  it.each<[string | null, string | null, number | null]>([
    [null, null, null],
    ["0", null, 0],
    ["7", null, 7000],
    ["17", null, 17_000],
    ["Thu, 01 Jan 1970 00:00:10 GMT+0000", null, 7000],
    ["01 Jan 1970 00:00:10 GMT", null, 7000],
    ["7s", null, null],
    ["x7", null, null],
    ["later", null, null],
    ["Thu, 01 Jan 1970 00:00:10 GMT", null, 10_000 - 3000],
    ["Thu, 01 Jan 1970 00:00:03 GMT", null, 0],
    ["Thu, 01 Jan 1970 00:00:02 GMT", null, null],
    ["Thu, 01 Jan 1970 00:00:10 GMT", "Thu, 01 Jan 1970 00:00:09 GMT", 1000],
    ["Thu, 01 Jan 1970 00:00:10 GMT", "soon", 7000],
  ])("by the Retry-After %j and the Date %j: %s", (said, date, wait) => {
    const headers = new Headers();
    if (said !== null) headers.set("retry-after", said);
    if (date !== null) headers.set("date", date);
    expect(parseRetryAfter(headers, 3000)).toBe(wait);
  });
});
