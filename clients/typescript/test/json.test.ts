/** JSON with all its digits, instants and the order of values: what is equal, and where limits are. */

import { describe, expect, it } from "vitest";
import { after, EPOCH, formatInstant, LATEST, latest, tick } from "../src/data/clock.js";
import { compareText, compareValues } from "../src/data/order.js";
import { dump, freeze, type Json, kindOf, normal, parse, same } from "../src/data/values.js";

describe("JSON", () => {
  it.each<[string, Json]>([
    ["[0.1234567890123456]", [0.1234567890123456]],
    ["[1.1234567890123457,-1.1234567890123457]", [1.1234567890123457, -1.1234567890123457]],
    ["[1234567890123456.5]", [1234567890123456.5]],
    ["[1234567890123456e5]", [1234567890123456e5]],
    ["[1234567890123456E-5]", [1234567890123456e-5]],
    ["[1234567890123456]", [1234567890123456]],
    ["[-1234567890123456]", [-1234567890123456]],
    ["9007199254740991", 9007199254740991],
    ["9007199254740993", 9007199254740993n],
    ["-9007199254740993", -9007199254740993n],
    ['["1234567890123456789","\\"1234567890123456789"]', ["1234567890123456789", '"1234567890123456789']],
    ['["\\\\",1234567890123456789]', ["\\", 1234567890123456789n]],
    ['{"1234567890123456789":1234567890123456789}', { "1234567890123456789": 1234567890123456789n }],
  ])("%s is read with every digit", (text, value) => {
    expect(parse(text)).toEqual(value);
  });

  it.each(["[1234567890123456", "1234567890123456-", '{"a":1234567890123456,}', "", "nul"])(
    "%j is none",
    (text) => {
      expect(() => parse(text)).toThrow(SyntaxError);
    },
  );

  it("is written with every digit, and what is a text stays one", () => {
    expect(dump([2n ** 64n, -(2n ** 64n), { a: 5n }])).toBe(
      '[18446744073709551616,-18446744073709551616,{"a":5}]',
    );
    expect(dump(["12", 2n ** 64n])).toBe('["12",18446744073709551616]');
    expect([normal(5n), normal(-5n), normal(10n ** 23n), normal(2n ** 60n + 1n)]).toEqual([
      5,
      -5,
      1e23,
      2n ** 60n + 1n,
    ]);
  });

  it.each<[Json | undefined, Json | undefined, boolean]>([
    [1, 1, true],
    [1, true, false],
    [0, false, false],
    ["1", 1, false],
    [null, null, true],
    [undefined, undefined, true],
    [undefined, null, true],
    [null, undefined, true],
    [undefined, 0, false],
    [0, undefined, false],
    [null, 0, false],
    [null, {}, false],
    [{}, null, false],
    [undefined, {}, false],
    ["", null, false],
    [{}, [], false],
    [{}, 5, false],
    [[], "", false],
    [{}, true, false],
    [[], {}, false],
    [[], [], true],
    [[1, 2], [1, 2], true],
    [[1, 2], [2, 1], false],
    [[1], [1, 2], false],
    [[1, 2], [1], false],
    [{ a: 1, b: [2] }, { b: [2], a: 1 }, true],
    [{ a: 1 }, { a: 1, b: 2 }, false],
    [{ a: 1, b: 2 }, { a: 1 }, false],
    [{ a: null }, { b: null }, false],
    [{ a: { b: 1 } }, { a: { b: 2 } }, false],
    [{ a: 1 }, { a: 1 }, true],
  ])("%j and %j: equal %s", (one, other, equal) => {
    expect(same(one, other)).toBe(equal);
  });

  it("that several read cannot be changed, all through", () => {
    const value = { list: [{ deep: [1] }], no: null, n: 1 };
    expect(freeze(value)).toBe(value);
    for (const part of [value, value.list, value.list[0], value.list[0]?.deep])
      expect(Object.isFrozen(part)).toBe(true);
    expect([freeze(null), freeze(1), freeze("x")]).toEqual([null, 1, "x"]);
  });
});

describe("an instant", () => {
  const LAST = Date.parse("9999-12-31T23:59:59.999Z");

  it.each([
    [-1, 0, EPOCH],
    [0, 0, EPOCH],
    [0, 7, "1970-01-01T00:00:00.000007Z"],
    [1.9, 0, "1970-01-01T00:00:00.001000Z"],
    [LAST, 999, LATEST],
    [LAST, 998, "9999-12-31T23:59:59.999998Z"],
    [LAST + 1, 0, LATEST],
  ])("of %d ms and %d µs is %s", (millis, below, instant) => {
    expect(formatInstant(millis, below)).toBe(instant);
  });

  it.each([
    [EPOCH, -1, EPOCH],
    [EPOCH, 1, "1970-01-01T00:00:00.000001Z"],
    ["2026-01-01T10:00:00.000999Z", 1, "2026-01-01T10:00:00.001000Z"],
    ["2026-01-01T10:00:00.000000Z", -1, "2026-01-01T09:59:59.999999Z"],
    ["2026-01-01T10:00:00.000999Z", 999, "2026-01-01T10:00:00.001998Z"],
    ["2026-12-31T23:59:59.999999Z", 1, "2027-01-01T00:00:00.000000Z"],
    ["9999-12-31T23:59:59.999998Z", 1, LATEST],
    [LATEST, 1, LATEST],
  ])("%s and %d µs is %s", (instant, step, then) => {
    expect(after(instant, step)).toBe(then);
  });

  it("of two is the later", () => {
    expect([latest(EPOCH, LATEST), latest(LATEST, EPOCH), latest(EPOCH, EPOCH)]).toEqual([
      LATEST,
      LATEST,
      EPOCH,
    ]);
    expect(tick(LATEST, 0)).toBe(EPOCH);
  });
});

describe("the order", () => {
  it.each([
    ["", ""],
    ["a", "a"],
  ])("of %j and %j: none", (one, other) => {
    expect(compareText(one, other)).toBe(0);
    expect(compareValues(one, other)).toBe(0);
  });

  const RISING: Json[] = [
    null,
    -(2n ** 70n),
    -1,
    false,
    0.5,
    true,
    2,
    2n ** 60n + 1n,
    2n ** 60n + 2n,
    1e300,
    "",
    "a",
    "a\n",
    "a!",
    "aa",
    "b",
    "\uffff",
    "\u{1f600}",
    [1],
    { a: 1 },
  ];

  it("is of null, numbers, texts by code point, and the rest", () => {
    for (const [place, one] of RISING.entries())
      for (const [against, other] of RISING.entries())
        expect([one, other, Math.sign(compareValues(one, other))]).toEqual([
          one,
          other,
          Math.sign(place - against),
        ]);
    expect([compareValues(0, false), compareValues(1, true), compareValues(undefined, null)]).toEqual([
      0, 0, 0,
    ]);
  });

  it("knows what kind a value is of", () => {
    const kinds = [undefined, null, true, 1, 1n, "", [], {}].map(kindOf);
    expect(kinds).toEqual(["null", "null", "boolean", "number", "number", "text", "list", "object"]);
  });
});
