import { expect, test } from "vitest";
import { byField } from "../src/history.js";

const change = (seq: number, fields: object, superseded: object = {}): never =>
  ({ seq, userId: `demo:u${seq}`, clientId: `c${seq}`, fields, superseded }) as never;
const write = (value: string): object => ({ value, at: "2026-01-01T00:00:00.000000Z" });

test("a card's changes are told by field, newest first, with what lost", () => {
  const found = byField([
    change(3, { list: write("b") }, { title: write("lost") }),
    change(2, { title: write("second") }),
    change(1, { title: write("first"), list: write("a") }),
  ]);
  expect(found.get("title")?.map(({ value, lost, user }) => [value, lost, user])).toEqual([
    ["lost", true, "demo:u3"],
    ["second", false, "demo:u2"],
    ["first", false, "demo:u1"],
  ]);
  expect(found.get("list")?.map(({ seq }) => seq)).toEqual([3, 1]);
});
