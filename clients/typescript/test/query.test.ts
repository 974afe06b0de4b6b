/** Queries: what a condition means at its border, what is no condition, and pages of an order that has ties. */

import { describe, expect, it } from "vitest";
import type { Registers } from "../src/data/merge.js";
import type { Row } from "../src/data/row.js";
import { EVERY_SPACE, InvalidQuery, type Json } from "../src/index.js";
import { compile } from "../src/query.js";

const AT = "2026-01-01T10:00:00.000000Z";

function view(fields: { readonly [field: string]: Json }): Registers {
  return new Map(Object.entries(fields).map(([field, value]) => [field, { value, at: AT, client: "me" }]));
}

function row(id: string, fields: { readonly [field: string]: Json } = {}, more: object = {}): Row {
  return { space: null, table: "t", id, deletedAt: null, fields, ...more };
}

function matches(where: object, fields: { readonly [field: string]: Json }): boolean {
  return compile("t", where, {}, "u").matches(view(fields), false);
}

describe("a condition", () => {
  it.each<[string, Json, Json, boolean]>([
    ["=", 2, 2, true],
    ["=", 2, true, false],
    ["=", null, 2, false],
    ["!=", 2, 2, false],
    ["!=", 2, 3, true],
    ["<", 1, 2, true],
    ["<", 2, 2, false],
    ["<=", 2, 2, true],
    ["<=", 3, 2, false],
    [">", 2, 2, false],
    [">", 3, 2, true],
    [">=", 2, 2, true],
    [">=", 1, 2, false],
    [">=", "3", 2, false],
    [">=", true, 1, false],
    ["<=", false, 1, false],
    ["<", null, 1, false],
    [">", "b", "a", true],
    ["in", 2, [1, 2], true],
    ["in", 3, [1, 2], false],
    ["in", [1], [[1]], true],
    ["in", 1, [], false],
  ])("%s of %j and %j: %s", (operator, value, operand, holds) => {
    expect(matches([["n", operator, operand]], { n: value })).toBe(holds);
    expect(matches({ n: { [operator]: operand } }, { n: value })).toBe(holds);
  });

  it("compares integers with all their digits", () => {
    const [less, more] = [2n ** 60n, 2n ** 60n + 1n];
    const found = [">", "<=", "="].map((operator) => matches({ n: { [operator]: less } }, { n: more }));
    expect(found).toEqual([true, false, false]);
  });

  it("takes a missing field for null", () => {
    expect(matches({ n: null }, {})).toBe(true);
    expect(matches([["n", "!=", null]], {})).toBe(false);
    expect(matches([["n", "in", [null]]], {})).toBe(true);
  });

  it("holds together with the others, or not at all", () => {
    expect(matches({ n: { ">": 1, "<": 3 } }, { n: 2 })).toBe(true);
    expect(matches({ n: { ">": 1, "<": 3 } }, { n: 3 })).toBe(false);
    expect(matches({ n: 1, m: 1 }, { n: 1, m: 2 })).toBe(false);
    expect(matches([], { n: 1 })).toBe(true);
  });

  it("is one of operators where it is an object with members, and compares others as they are", () => {
    expect(matches({ n: {} }, { n: {} })).toBe(true);
    expect(matches({ n: {} }, { n: { a: 1 } })).toBe(false);
    expect(matches({ n: { "=": { a: 2, "<": 1 } } }, { n: { "<": 1, a: 2 } })).toBe(true);
    expect(matches({ n: ["<", 1] }, { n: ["<", 1] })).toBe(true);
  });

  it("reads a path through objects, after a field of that very name", () => {
    expect(matches({ "a.b.c": 1 }, { a: { b: { c: 1 } } })).toBe(true);
    expect(matches({ "a.b": 1 }, { "a.b": 1, a: { b: 2 } })).toBe(true);
    expect(matches({ "a.b": null }, { "a.b": null, a: { b: 2 } })).toBe(true);
    expect(matches({ "a.b": null }, { a: ["x"], b: 1 })).toBe(true);
    expect(matches({ "a.length": 1 }, { a: ["x"] })).toBe(false);
    expect(matches({ "a.toString": null }, { a: {} })).toBe(true);
    expect(matches({ "a..b": 1 }, { a: { "": { b: 1 } } })).toBe(true);
  });

  it("compares with a number however it is given, and keeps what it was given", () => {
    const tags = ["a"];
    const { matches: holds } = compile("t", { n: 5n, tags: { in: [tags] } } as object, {}, "u");
    tags.push("b");
    expect(holds(view({ n: 5, tags: ["a"] }), false)).toBe(true);
  });

  it.each<[object, object]>([
    [[["n", "~", 1]], {}],
    [[["n", "toString", 1]], {}],
    [{ n: { "<": 1, a: 2 } }, {}],
    [{ n: { a: 1 } }, {}],
    [{ n: { toString: 1 } }, {}],
    [{ n: Number.NaN }, {}],
    [{ n: new Date(0) }, {}],
    [{ n: () => 1 }, {}],
    [[], { limit: 1.5 }],
    [[], { offset: 0.5 }],
    [[], { order: "" }],
    [[["n", "="]], {}],
    [[["n", "=", 1, 2]], {}],
    [[["n", "=", undefined]], {}],
    [{ n: undefined }, {}],
    [[["n", "<", null]], {}],
    [[["n", "<=", true]], {}],
    [[["n", ">", [1]]], {}],
    [[["n", ">=", {}]], {}],
    [[["n", "in", 1]], {}],
    [[["n", "in", { 0: 1 }]], {}],
    [[], { limit: -1 }],
    [[], { offset: -1 }],
    [[], { limit: Number.NaN }],
    [[], { space: "_personal:somebody" }],
  ])("is none, or no page: %j %j", (where, options) => {
    expect(() => compile("t", where, options, "u")).toThrow(InvalidQuery);
  });

  it.each<[string, object, object]>([
    ["", [], {}],
    ["t", [["", "=", 1]], {}],
    ["t", { "a\n": 1 }, {}],
    ["t", [], { order: "-" }],
    ["t", [], { order: [".."] }],
  ])("names no field or table that could be one: %j %j %j", (table, where, options) => {
    expect(() => compile(table, where, options, "u")).toThrow(InvalidQuery);
  });

  it("of a deleted record holds only where those are asked for", () => {
    const { matches: alive } = compile("t", { n: 1 }, {}, "u");
    const { matches: all } = compile("t", { n: 1 }, { deleted: true }, "u");
    const found = [view({ n: 1 }), view({ n: 2 })].map((one) => [
      alive(one, true),
      all(one, true),
      all(one, false),
    ]);
    expect(found).toEqual([
      [false, true, true],
      [false, false, false],
    ]);
  });

  it.each<[string | null | undefined, string | null]>([
    [undefined, ""],
    [null, ""],
    ["s", "s"],
    ["_personal:u", ""],
    [EVERY_SPACE, null],
  ])("asks in the space %j", (space, asked) => {
    expect(compile("t", [], space === undefined ? {} : { space }, "u").space).toBe(asked);
  });
});

describe("an order", () => {
  const ROWS = [row("b", { n: 1 }), row("c", { n: 2 }), row("a", { n: 2 }), row("d"), row("e", { n: "x" })];

  function ids(options: object, rows: readonly Row[] = ROWS): string {
    return compile("t", [], options, "u")
      .arrange(rows)
      .map(({ id }) => id)
      .join("");
  }

  it.each<[object, string]>([
    [{}, "abcde"],
    [{ order: "n" }, "dbace"],
    [{ order: "-n" }, "eacbd"],
    [{ order: ["n", "-missing"] }, "dbace"],
    [{ order: [] }, "abcde"],
    [{ limit: 0 }, ""],
    [{ limit: 2 }, "ab"],
    [{ offset: 3 }, "de"],
    [{ offset: 5 }, ""],
    [{ offset: 1, limit: 2 }, "bc"],
    [{ offset: 4, limit: 9 }, "e"],
  ])("of %j is %j", (options, order) => {
    expect(ids(options)).toBe(order);
  });

  it("goes on with the next field at a tie, and ends with the id and the space", () => {
    const two = [row("a", { n: 1, m: 1 }), row("b", { n: 1, m: 2 }), row("c", { n: 0, m: 0 })];
    expect(ids({ order: ["n", "-m"] }, two)).toBe("cba");
    const spaces = [row("a", {}, { space: "z" }), row("a", {}, { space: "s" }), row("a")];
    const arranged = compile("t", [], { space: EVERY_SPACE }, "u").arrange(spaces);
    expect(arranged.map(({ space }) => space)).toEqual([null, "s", "z"]);
    expect(ids({}, [row("\u{1f600}"), row("\uffff")])).toBe("\uffff\u{1f600}");
  });

  it("begins behind a row, wherever that would be now", () => {
    expect(ids({ after: row("b") })).toBe("cde");
    expect(ids({ order: "n", after: row("b", { n: 1 }) })).toBe("ace");
    expect(ids({ order: "-n", after: row("zz", { n: 2 }) })).toBe("bd");
    expect(ids({ order: "n", after: row("e", { n: "x" }) })).toBe("");
    expect(ids({ after: row("b"), offset: 1, limit: 1 })).toBe("d");
    expect(ids({ after: null })).toBe("abcde");
  });

  it("has no inherited member of an object for a field", () => {
    expect(ids({ order: "constructor" })).toBe("abcde");
    expect(ids({ order: "-n.toString" })).toBe("abcde");
  });

  it("may be that of the deletions", () => {
    const gone = row("a", {}, { deletedAt: AT });
    expect(ids({ order: "deletedAt", deleted: true }, [gone, row("b")])).toBe("ba");
    expect(ids({ order: "-deletedAt", deleted: true }, [row("b"), gone])).toBe("ab");
  });
});
