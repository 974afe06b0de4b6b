import type { PastChange } from "@syncd/client/history";
import { expect, test } from "vitest";
import { byField } from "../src/history.js";

type Fields = PastChange["fields"];

const write = (field: string, value: string): [string, { value: string; at: string; client: string }] => [
  field,
  { value, at: "2026-01-01T00:00:00.000000Z", client: "c" },
];
const change = (seq: number, fields: Fields, superseded: Fields = new Map()): PastChange => ({
  seq,
  eventId: `e${seq}`,
  op: "update",
  user: `demo:u${seq}`,
  client: `c${seq}`,
  changeId: null,
  createdAt: "2026-01-01T00:00:00.000000Z",
  schemaVersion: null,
  actor: null,
  origin: null,
  fields,
  superseded,
});

test("a card's changes are told by field, newest first, with what lost", () => {
  const found = byField([
    change(3, new Map([write("list", "b")]), new Map([write("title", "lost")])),
    change(2, new Map([write("title", "second")])),
    change(1, new Map([write("title", "first"), write("list", "a")])),
  ]);
  expect(found.get("title")?.map(({ value, lost, user }) => [value, lost, user])).toEqual([
    ["lost", true, "demo:u3"],
    ["second", false, "demo:u2"],
    ["first", false, "demo:u1"],
  ]);
  expect(found.get("list")?.map(({ seq }) => seq)).toEqual([3, 1]);
});
