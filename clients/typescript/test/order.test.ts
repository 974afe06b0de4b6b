/** Ordered lists: the cases of tests/vectors/order.json, as Python has them, and lists that many put something into. */

import { describe, expect, it } from "vitest";
import type { Json } from "../src/data/values.js";
import { InvalidWrite } from "../src/index.js";
import { between, inOrder, isRank, place, ranksBetween } from "../src/order.js";
import { vectors } from "./vectors.js";

type Bound = string | null;
interface Cases {
  isRank: { value: Json; holds: boolean }[];
  between: { low: Bound; high: Bound; expect: string }[];
  refused: { low: Bound; high: Bound }[];
  ranksBetween: { low: Bound; high: Bound; count: number; expect: string[] }[];
  place: { name: string; ranks: Json[]; index: number; rank: string; moved: { [index: string]: string } }[];
  inOrder: { name: string; records: { id: string; space?: string; rank?: Json }[]; expect: string[] }[];
}

const CASES = vectors<Cases>("order");

/** The ranks after something was put at `index`, itself included. */
function put(ranks: readonly unknown[], index: number): unknown[] {
  const { rank, moved } = place(ranks, index);
  const after = ranks.map((held, at) => moved.get(at) ?? held);
  return [...after.slice(0, index), rank, ...after.slice(index)];
}

describe("the vectors", () => {
  it.each(CASES.isRank)("whether $value is a rank", ({ value, holds }) => {
    expect(isRank(value)).toBe(holds);
  });

  it.each(CASES.between)("between $low and $high", ({ low, high, expect: rank }) => {
    expect(between(low, high)).toBe(rank);
  });

  it.each(CASES.refused)("nothing between $low and $high", ({ low, high }) => {
    expect(() => between(low, high)).toThrow(InvalidWrite);
  });

  it.each(CASES.ranksBetween)("$count between $low and $high", ({ low, high, count, expect: ranks }) => {
    expect(ranksBetween(low, high, Number(count))).toEqual(ranks);
  });

  it.each(CASES.place)("place: $name", ({ ranks, index, rank, moved }) => {
    const placed = place(ranks, Number(index));
    expect({ rank: placed.rank, moved: Object.fromEntries(placed.moved) }).toEqual({ rank, moved });
  });

  it.each(CASES.inOrder)("in order: $name", ({ records, expect: ids }) => {
    const sorted = inOrder(records, ({ rank }) => rank);
    expect(sorted.map(({ id, space }) => (space ? `${id} ${space}` : id))).toEqual(ids);
  });
});

describe("a list", () => {
  it("has room wherever something is put", () => {
    let ranks: unknown[] = [];
    for (let step = 0; step < 400; step += 1) ranks = put(ranks, (step * 7919) % (ranks.length + 1));
    expect(ranks.every((rank, at) => isRank(rank) && (at === 0 || (ranks[at - 1] as string) < rank))).toBe(
      true,
    );
  });

  it("shows what was put somewhere there, also among equal ranks and those that have none", () => {
    const held = ["a0", "a1", "a1", "a1", "a2", null, "!", undefined];
    for (let index = 0; index <= held.length; index += 1) {
      const after = put(held, index).map((rank, at) => ({ id: String(at).padStart(2, "0"), rank }));
      expect(inOrder(after, ({ rank }) => rank)).toEqual(after);
    }
  });

  it("is held up by no rank that another device made very long", () => {
    const long = `a0${"z".repeat(100_000)}1`;
    const rank = between(long, "a1");
    expect(isRank(rank) && long < rank && rank < "a1").toBe(true);
  });
});
