import { expect, test } from "vitest";
import { isRank, place } from "../src/rank.js";

/** The ranks after something was put at `index`, itself included. */
function put(ranks: readonly string[], index: number): string[] {
  const { rank, moved } = place(ranks, index);
  const after = ranks.map((held, at) => moved.get(at) ?? held);
  return [...after.slice(0, index), rank, ...after.slice(index)];
}

function rises(ranks: readonly string[]): boolean {
  return ranks.every((rank, at) => at === 0 || (ranks[at - 1] as string) < rank);
}

test("there is room at every place, however often it is taken", () => {
  let ranks: string[] = [];
  for (let step = 0; step < 400; step += 1) ranks = put(ranks, (step * 7919) % (ranks.length + 1));
  expect(ranks).toHaveLength(400);
  expect(rises(ranks)).toBe(true);
  expect(ranks.every(isRank)).toBe(true);
});

test("only what is put somewhere is written, where ranks differ", () => {
  expect(place(["a0", "a1", "a2"], 1).moved.size).toBe(0);
});

test("between two of one rank, which devices made while apart, those that follow make room", () => {
  const tied = ["a0", "a1", "a1", "a1", "a2"];
  for (let index = 0; index <= tied.length; index += 1) {
    const after = put(tied, index);
    const at = after[index] as string;
    expect(after.slice(0, index).every((rank) => rank < at)).toBe(true);
    expect(after.slice(index + 1).every((rank) => rank > at)).toBe(true);
    expect(after.every((rank, place) => place === 0 || (after[place - 1] as string) <= rank)).toBe(true);
  }
});

test("what is no rank is told apart", () => {
  expect(["a0", "a0V", "Zz", "b10"].filter(isRank)).toEqual(["a0", "a0V", "Zz", "b10"]);
  expect(["", "!", "a", "a00", "é", 7, null, undefined].some(isRank)).toBe(false);
});
