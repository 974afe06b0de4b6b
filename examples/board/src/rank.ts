/** Where something stands among its neighbours: a fractional index, text that always has room before and after it. */

import { generateKeyBetween, generateNKeysBetween } from "fractional-indexing";

/** The place of one thing, and the new places of those (by index) that had to make room for it. */
export interface Placed {
  readonly rank: string;
  readonly moved: ReadonlyMap<number, string>;
}

/** Whether a value is a rank. */
export function isRank(value: unknown): value is string {
  if (typeof value !== "string") return false;
  try {
    generateKeyBetween(value, null);
    return true;
  } catch {
    return false;
  }
}

/**
 * The rank of what is put at `index` among `ranks`, which are in order. Devices that put something at one place while
 * apart have made one rank of it twice: there is no room between the two, so those that follow move on a little.
 */
export function place(ranks: readonly string[], index: number): Placed {
  const low = ranks[index - 1] ?? null;
  let end = index;
  while (low !== null && (ranks[end] ?? null) !== null && (ranks[end] as string) <= low) end += 1;
  const [rank = "a0", ...rest] = generateNKeysBetween(low, ranks[end] ?? null, end - index + 1);
  return { rank, moved: new Map(rest.map((key, step) => [index + step, key])) };
}
