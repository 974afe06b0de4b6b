/** Whether a merge changed anything, which decides what is stored and told. */

import { expect, test } from "vitest";
import { merge, type Register, wins } from "../src/data/merge.js";

const AT = "2026-01-01T10:00:00.000000Z";
const LATER = "2026-01-01T10:00:00.000001Z";
const HELD: Register = { value: { a: [1] }, at: AT, client: "m" };

test("the same register again changes nothing", () => {
  const held = new Map([["f", HELD]]);
  expect(merge(held, new Map([["f", { ...HELD, value: { a: [1] } }]]))).toBe(false);
  expect(held.get("f")).toBe(HELD);
  expect(merge(held, new Map())).toBe(false);
});

test.each([
  ["another value at the same stamp", { value: { a: [2] } }],
  ["the same value later", { at: LATER }],
  ["the same value of a greater client", { client: "n" }],
  ["the same write as the server lowered it", { sent: LATER }],
])("%s stands", (_, part) => {
  const held = new Map([["f", HELD]]);
  const incoming: Register = { ...HELD, ...part };
  expect(merge(held, new Map([["f", incoming]]))).toBe(true);
  expect(held.get("f")).toBe(incoming);
});

test("what loses changes nothing", () => {
  const held = new Map([["f", { ...HELD, at: LATER }]]);
  expect(merge(held, new Map([["f", HELD]]))).toBe(false);
  expect(wins(HELD, { ...HELD, client: "n" })).toBe(false);
  expect(wins(HELD, HELD)).toBe(true);
});
