/** What a change may say, met exactly and exceeded by one; and what of the wire is no change. */

import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import {
  checkFields,
  checkId,
  checkSpace,
  listOf,
  newId,
  readChange,
  spaceKey,
  textOr,
  writeChange,
} from "../src/data/change.js";
import { EPOCH } from "../src/data/clock.js";
import type { Register, Registers } from "../src/data/merge.js";
import { BadReply, InvalidQuery, InvalidWrite, type Json, type JsonObject } from "../src/index.js";

const AT = "2026-01-01T10:00:00.000000Z";
const MAX_DEPTH = 64;
const LATER = "2026-01-01T10:00:00.000001Z";

function registers(entries: { [field: string]: Partial<Register> }): Registers {
  return new Map(
    Object.entries(entries).map(([field, part]) => [field, { value: 1, at: AT, client: "me", ...part }]),
  );
}

describe("an id", () => {
  it.each(["x".repeat(255), "\u{1f600}".repeat(255), "...", ".a", "a.", " ", "é"])("may be %j", (id) => {
    expect(checkId("the id", id)).toBe(id);
  });

  it.each([7, null, undefined, "", "x".repeat(256), "\u{1f600}".repeat(256), ".", "..", "a\n", "\ud800"])(
    "may not be %j, and it says which id",
    (id) => {
      expect(() => checkId("the id", id)).toThrow(
        expect.objectContaining({ code: "invalid_write", field: "the id" }),
      );
    },
  );

  it("that is made is a UUIDv7 of its millisecond", () => {
    expect(newId(1.9)).toMatch(/^00000000-0001-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(newId(2 ** 48 - 1)).toMatch(/^ffffffff-ffff-7/);
    expect(newId(0x0123456789ab)).toMatch(/^01234567-89ab-7/);
    const ids = Array.from({ length: 100 }, () => newId(5));
    expect(new Set(ids).size).toBe(100);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  });
});

describe("a space", () => {
  it.each([
    [null, "", ""],
    [undefined, "", ""],
    ["s", "", "s"],
    ["_personal:ann", "ann", ""],
    ["_personalx", "ann", "_personalx"],
  ])("%j for the user %j is %j", (space, user, key) => {
    expect(checkSpace(space, user)).toBe(key);
    expect(spaceKey(space)).toBe(key);
  });

  it.each([
    ["_personal:bo", "ann"],
    ["_personal:ann", ""],
    ["_personal:", ""],
    ["_personal:anna", "ann"],
    ["", "ann"],
    ["..", "ann"],
    ["a\n", "ann"],
    ["x".repeat(256), "ann"],
  ])("%j is not one of the user %j", (space, user) => {
    expect(() => checkSpace(space, user)).toThrow(InvalidWrite);
    expect(() => checkSpace(space, user, InvalidQuery)).toThrow(InvalidQuery);
  });
});

function nested(depth: number, wrap: (inner: Json) => Json): Json {
  let value: Json = "leaf";
  for (let level = 0; level < depth; level++) value = wrap(value);
  return value;
}

describe("a value", () => {
  it.each<[string, (inner: Json) => Json]>([
    ["lists", (inner) => [inner]],
    ["objects", (inner) => ({ in: inner })],
  ])("may be 64 %s deep, and no more", (_, wrap) => {
    const deep = nested(MAX_DEPTH, wrap);
    expect(checkFields({ n: deep }, "").get("n")).toEqual(deep);
    expect(() => checkFields({ n: nested(MAX_DEPTH + 1, wrap) }, "")).toThrow(
      expect.objectContaining({ field: "n" }),
    );
  });

  it.each<[string, unknown]>([
    ["the greatest double", Number.MAX_VALUE],
    ["an object without a prototype", Object.assign(Object.create(null), { a: 1 })],
    ["an object of another page", runInNewContext("({ a: 1 })")],
    ["a list of another page", runInNewContext("[1]")],
    ["false", false],
    ["null", null],
    ["an integer beyond 2^53", 2n ** 64n],
    ["an empty object", {}],
    ["an empty list", []],
    ["a text beyond the first plane", "\u{1f600}"],
  ])("may be %s", (_, value) => {
    expect(checkFields({ n: value }, "").get("n")).toEqual(value);
  });

  it.each<[string, unknown]>([
    ["a list with a hole", Object.assign([1, 2], { length: 3 })],
    ["an integer beyond a double", 10n ** 309n],
    ["a symbol", Symbol("x")],
    ["an object of a class", new (class Point {})()],
    ["an object over another one", Object.create({ a: 1 })],
    ["U+0000 in a key", { "a\0": 1 }],
  ])("may not be %s", (_, value) => {
    expect(() => checkFields({ n: value }, "")).toThrow(InvalidWrite);
  });

  it("is a number where a big integer is no longer than that", () => {
    expect(checkFields({ n: 5n }, "").get("n")).toBe(5);
  });

  it("that is refused is named by its place", () => {
    expect(() => checkFields({ n: { list: [1, { at: undefined }] } }, "")).toThrow("n.list[1].at");
  });
});

describe("the fields of a write", () => {
  it.each<[object, string]>([
    [{}, "s"],
    [{ deletedAt: null }, "s"],
    [{ spaceId: "s" }, ""],
    [{ "": 1 }, "s"],
  ])("may not be %j in the space %j", (fields, space) => {
    expect(() => checkFields(fields, space)).toThrow(InvalidWrite);
  });

  it("that have no name are called so", () => {
    expect(() => checkFields({ "": 1 }, "s")).toThrow(expect.objectContaining({ field: "a field name" }));
  });

  it("may be called spaceId in a shared space", () => {
    expect(checkFields({ spaceId: "x" }, "s")).toEqual(new Map([["spaceId", "x"]]));
  });
});

describe("a change of the wire", () => {
  const GOOD = { changeId: "c", table: "t", id: "r", op: "update", clientId: "w" };

  it.each<[string, Json]>([
    ["null", null],
    ["a text", "x"],
    ["a list", []],
    ["an unknown op", { ...GOOD, op: "upsert" }],
    ["no op", { table: "t", id: "r" }],
    ["no table", { op: "update", id: "r" }],
    ["no id", { op: "update", table: "t" }],
    ["a space that is a number", { ...GOOD, spaceId: 7 }],
    ["a list of fields", { ...GOOD, fields: [] }],
    ["a register that is none", { ...GOOD, fields: { n: 1 } }],
    ["a register without a value", { ...GOOD, fields: { n: { at: AT } } }],
    ["a register without an instant", { ...GOOD, fields: { n: { value: 1 } } }],
    ["an instant that is none", { ...GOOD, fields: { n: { value: 1, at: "yesterday" } } }],
    ["an instant that is a number", { ...GOOD, fields: { n: { value: 1, at: 5 } } }],
    ["a wrong instant that was sent", { ...GOOD, fields: { n: { value: 1, at: AT, sent: "x" } } }],
    ["a deletion without an instant", { ...GOOD, op: "delete" }],
    ["a list of data", { ...GOOD, op: "insert", data: [] }],
  ])("is refused with %s", (_, wire) => {
    expect(() => readChange(wire)).toThrow(BadReply);
    expect(() => readChange(wire)).toThrow(BadReply);
  });

  it("says who wrote what where and when", () => {
    const fields = {
      n: { value: 1, at: AT },
      m: { value: null, updatedAt: LATER, clientId: "other" },
      o: { value: 3, at: AT, sent: LATER },
    };
    expect(readChange({ ...GOOD, spaceId: "s", fields, whole: true })).toEqual({
      changeId: "c",
      key: ["s", "t", "r"],
      op: "update",
      client: "w",
      whole: true,
      erased: false,
      registers: new Map<string, Register>([
        ["n", { value: 1, at: AT, client: "w" }],
        ["m", { value: null, at: LATER, client: "other" }],
        ["o", { value: 3, at: AT, client: "w", sent: LATER }],
      ]),
    });
  });

  it("may leave out its id, its writer, its fields and the personal space", () => {
    const bare = { table: "t", id: "r", op: "update" };
    const nothing = {
      changeId: null,
      key: ["", "t", "r"],
      client: "me",
      whole: false,
      erased: false,
      registers: new Map(),
    };
    expect(readChange(bare, "me")).toMatchObject(nothing);
    expect(
      readChange(
        { ...bare, changeId: "", clientId: "", spaceId: "_personal:u", fields: null, whole: 1 },
        "me",
      ),
    ).toMatchObject(nothing);
    expect(readChange(bare).client).toBe("");
  });

  it("deletes at its instant, unless a register says when", () => {
    const deletion: JsonObject = { ...GOOD, op: "delete", deletedAt: AT };
    const tombstone = { value: AT, at: AT, client: "w" };
    expect(readChange(deletion).registers).toEqual(new Map([["deletedAt", tombstone]]));
    const said = { value: LATER, at: LATER, clientId: "x" };
    expect(readChange({ ...deletion, fields: { deletedAt: said } }).registers.get("deletedAt")).toEqual({
      value: LATER,
      at: LATER,
      client: "x",
    });
  });

  it.each<[string, JsonObject, string]>([
    ["it was updated", { updatedAt: LATER, createdAt: AT }, LATER],
    ["it was created", { createdAt: AT }, AT],
    ["it was created, where the update has no instant", { updatedAt: "soon", createdAt: AT }, AT],
    ["time began", {}, EPOCH],
    ["time began, where no instant is one", { updatedAt: 1, createdAt: null }, EPOCH],
  ])("of the first generation is of when %s", (_, times, at) => {
    const { registers: read } = readChange({ ...GOOD, op: "insert", data: { title: "x", ...times } });
    expect(read.get("title")).toEqual({ value: "x", at, client: "w" });
    expect([...read.keys()]).toEqual(["title", ...Object.keys(times)]);
  });

  it("of the first generation has data in inserts only, and its fields say more than that", () => {
    const data = { n: 1, m: 1 };
    expect(readChange({ ...GOOD, data }).registers.size).toBe(0);
    const both = readChange({ ...GOOD, op: "insert", data, fields: { n: { value: 2, at: AT } } });
    expect([both.registers.get("n")?.value, both.registers.get("m")?.value]).toEqual([2, 1]);
  });
});

describe("a change for the wire", () => {
  const DRAFT = {
    changeId: "c",
    key: ["s", "t", "r"],
    op: "update",
    extra: {},
    confirmed: new Map(),
  } as const;

  it("names its space unless that is the personal one, and what the application gave", () => {
    const own = writeChange({
      ...DRAFT,
      key: ["", "t", "r"],
      registers: registers({ n: {} }),
      extra: { origin: "x" },
    });
    expect(JSON.parse(own)).toEqual({
      changeId: "c",
      table: "t",
      id: "r",
      op: "update",
      fields: { n: { value: 1, at: AT } },
      origin: "x",
    });
    expect(JSON.parse(writeChange({ ...DRAFT, registers: registers({ n: {} }) })).spaceId).toBe("s");
  });

  it("says what of others it is written over, not what of its own", () => {
    const confirmed = registers({ theirs: { client: "x", at: LATER }, mine: {} });
    const body = writeChange({
      ...DRAFT,
      registers: registers({ theirs: {}, mine: {}, fresh: {} }),
      confirmed,
    });
    const { fields } = JSON.parse(body) as { fields: { [field: string]: object } };
    expect(fields).toEqual({
      theirs: { value: 1, at: AT, base: LATER },
      mine: { value: 1, at: AT },
      fresh: { value: 1, at: AT },
    });
  });

  it("that deletes says when, and the rest only where there is something to say", () => {
    const tombstone = registers({ deletedAt: { value: AT } });
    const alone = JSON.parse(writeChange({ ...DRAFT, op: "delete", registers: tombstone }));
    expect(alone).toEqual({ changeId: "c", table: "t", id: "r", op: "delete", spaceId: "s", deletedAt: AT });
    const over = registers({ deletedAt: { client: "x", at: LATER } });
    const written = writeChange({ ...DRAFT, op: "delete", registers: tombstone, confirmed: over });
    expect(JSON.parse(written).fields).toEqual({ deletedAt: { value: AT, at: AT, base: LATER } });
    const more = registers({ n: {}, deletedAt: { value: AT } });
    expect(JSON.parse(writeChange({ ...DRAFT, op: "delete", registers: more })).fields).toEqual({
      n: { value: 1, at: AT },
    });
    expect(JSON.parse(writeChange({ ...DRAFT, registers: tombstone })).fields).toHaveProperty("deletedAt");
  });
});

it("a list may be missing, and a text may say nothing", () => {
  expect([listOf(undefined), listOf(null), listOf([1])]).toEqual([[], [], [1]]);
  expect(() => listOf({})).toThrow(BadReply);
  expect([textOr("", "else"), textOr(7, "else"), textOr("x", "else")]).toEqual(["else", "else", "x"]);
});
