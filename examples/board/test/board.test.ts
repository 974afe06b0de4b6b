import type { Row } from "@syncd/client";
import { expect, test } from "vitest";
import { arrange, byCard, EMPTY, search } from "../src/board.js";
import type { CardFields, CommentFields, ListFields } from "../src/tables.js";

function row<F extends object>(
  table: string,
  id: string,
  fields: Partial<F>,
  deletedAt: string | null = null,
): Row<F> {
  return { space: "s", table, id, deletedAt, fields };
}
const list = (id: string, rank: string, deletedAt?: string): Row<ListFields> =>
  row("lists", id, { title: `List ${id}`, rank }, deletedAt);
const card = (id: string, fields: Partial<CardFields>, deletedAt?: string): Row<CardFields> =>
  row("cards", id, fields, deletedAt);

const LISTS = [list("one", "a0"), list("two", "a1")];
const CARDS = [
  card("x", { list: "one", rank: "a0", title: "Buy milk" }),
  card("y", { list: "two", rank: "a0", title: "Sell Milk", labels: ["urgent"] }),
  card("z", { list: "one", rank: "a1", description: "milk, again" }),
];

test("cards stand in their lists by rank, and by id where ranks are equal", () => {
  const tied = [
    card("b", { list: "one", rank: "a0" }),
    card("a", { list: "one", rank: "a0" }),
    ...CARDS.slice(1),
  ];
  const board = arrange(EMPTY, [list("two", "a1"), list("one", "a0")], tied);
  expect(board.lists.map(({ id }) => id)).toEqual(["one", "two"]);
  expect(board.cards.get("one")?.map(({ id }) => id)).toEqual(["a", "b", "z"]);
});

test("what did not change stays the same object", () => {
  const before = arrange(EMPTY, LISTS, CARDS);
  const [first, ...others] = CARDS;
  const after = arrange(before, [...LISTS], [{ ...(first as Row<CardFields>) }, ...others]);
  expect(after.lists).toBe(before.lists);
  expect(after.cards.get("two")).toBe(before.cards.get("two"));
  expect(after.cards.get("one")).not.toBe(before.cards.get("one"));
  expect(after.cards.get("one")?.[1]).toBe(before.cards.get("one")?.[1]);
});

test("a deleted list takes its cards out of sight, and can be found again", () => {
  const board = arrange(EMPTY, [list("one", "a0", "2026-01-01T00:00:00Z"), list("two", "a1")], CARDS);
  expect([...board.cards.keys()]).toEqual(["two"]);
  expect(board.deletedLists.map(({ id }) => id)).toEqual(["one"]);
});

test("deleted cards are listed newest first", () => {
  const deleted = [
    card("old", { list: "one" }, "2026-01-01T00:00:00Z"),
    card("new", { list: "one" }, "2026-01-02T00:00:00Z"),
  ];
  expect(arrange(EMPTY, LISTS, deleted).deletedCards.map(({ id }) => id)).toEqual(["new", "old"]);
});

test("fields that are missing, or of another kind than they should be, do no harm", () => {
  const odd = card("odd", { list: "one", rank: "!", title: 7, labels: "bug", due: [] } as never);
  const read = arrange(EMPTY, LISTS, [odd, ...CARDS])
    .cards.get("one")
    ?.at(-1);
  expect(read).toMatchObject({ id: "odd", title: "Untitled", rank: "", labels: [], due: null });
});

test("a search wants every word, wherever it is", () => {
  const cards = [...arrange(EMPTY, LISTS, CARDS).cards.values()].flat();
  expect(search(cards, "MILK").map(({ id }) => id)).toEqual(["x", "z", "y"]);
  expect(search(cards, " milk urgent ").map(({ id }) => id)).toEqual(["y"]);
  expect(search(cards, "  ")).toBe(cards);
});

test("comments are grouped by card", () => {
  const comment = (id: string, on: string): Row<CommentFields> => row("comments", id, { card: on, text: id });
  const rows = [comment("1", "x"), comment("2", "y"), comment("3", "x")];
  const before = byCard(new Map(), rows);
  expect(before.get("x")?.map(({ id }) => id)).toEqual(["1", "3"]);
  expect(byCard(before, [...rows, comment("4", "y")]).get("x")).toBe(before.get("x"));
});
