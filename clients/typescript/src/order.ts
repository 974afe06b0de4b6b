/**
 * @syncd/client/order: lists whose order people change. A record has its place as a rank: a text that sorts, with room for
 * another before it and after it. So who moves a record writes that record alone.
 *
 * Ranks are the keys of fractional indexing, after David Greenspan (CC0): a whole number, whose first letter says how many
 * digits it has, and the digits of a fraction.
 */

import { compareText } from "./data/order.js";
import { InvalidWrite } from "./errors.js";

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const HEADS = DIGITS.slice(10);
const FIRST = "a0";
const SMALLEST = `A${"0".repeat(26)}`;

/** The rank of what is put somewhere, and new ones of those (by their index) that get or make room for it. */
export interface Placed {
  readonly rank: string;
  readonly moved: ReadonlyMap<number, string>;
}

/** Whether a value is a rank. */
export function isRank(value: unknown): value is string {
  if (typeof value !== "string" || !/^[A-Za-z][0-9A-Za-z]+$/.test(value)) return false;
  const length = wholeLength(value);
  return value.length >= length && value !== SMALLEST && !(value.length > length && value.endsWith("0"));
}

/** A rank after `low` and before `high`, of which null is no bound. Raises InvalidWrite where there is none. */
export function between(low: string | null, high: string | null): string {
  for (const bound of [low, high])
    if (bound !== null && !isRank(bound)) throw new InvalidWrite(`${String(bound).slice(0, 99)} is no rank.`);
  if (low === null) return high === null ? FIRST : before(high);
  const whole = wholeOf(low);
  const next = increment(whole);
  if (high === null) return next ?? whole + middle(low.slice(whole.length), null);
  if (low >= high)
    throw new InvalidWrite("there is no rank between these two, as the first is not before the second.");
  if (wholeOf(high) === whole) return whole + middle(low.slice(whole.length), high.slice(whole.length));
  return next !== null && next < high ? next : whole + middle(low.slice(whole.length), null);
}

/** So many ranks after `low` and before `high`, short ones, in order: for a list that is new, say. */
export function ranksBetween(low: string | null, high: string | null, count: number): string[] {
  if (count < 1) return [];
  const one = between(low, high);
  const ranks = [one];
  if (high === null)
    while (ranks.length < count) ranks.push(between(ranks[ranks.length - 1] as string, null));
  else if (low === null) {
    while (ranks.length < count) ranks.push(between(null, ranks[ranks.length - 1] as string));
    ranks.reverse();
  } else {
    const half = Math.floor(count / 2);
    return [...ranksBetween(low, one, half), one, ...ranksBetween(one, high, count - half - 1)];
  }
  return ranks;
}

/**
 * The rank of what is put at `index` among `ranks`, which are in order (see `inOrder`) and without it. Devices that were
 * apart may have made one rank twice. There is no room between the two, so those behind move on. Records without a rank
 * stand last; those of them that are to stand before this one get ranks.
 */
export function place(ranks: readonly unknown[], index: number): Placed {
  const at = Math.max(0, Math.min(index, ranks.length));
  let start = at;
  while (start > 0 && !isRank(ranks[start - 1])) start -= 1;
  const low = rankAt(ranks, start - 1);
  let end = at;
  while (low !== null && (rankAt(ranks, end) ?? "~") <= low) end += 1;
  const made = ranksBetween(low, rankAt(ranks, end), end - start + 1);
  const [rank = FIRST] = made.splice(at - start, 1);
  return { rank, moved: new Map(made.map((key, step) => [start + step, key])) };
}

function rankAt(ranks: readonly unknown[], index: number): string | null {
  const rank = ranks[index];
  return isRank(rank) ? rank : null;
}

/**
 * Records as every device shows them: by rank, and by id (then space) where ranks are equal. Those whose rank is missing, or
 * is none, come last. `rankOf`: what a record has as its rank.
 */
export function inOrder<T extends { readonly id: string; readonly space?: string | null }>(
  records: readonly T[],
  rankOf: (record: T) => unknown,
): T[] {
  return records
    .map((record) => ({ record, rank: rankOf(record) }))
    .map(({ record, rank }) => ({ record, rank: isRank(rank) ? rank : "~" }))
    .sort((one, other) => {
      if (one.rank !== other.rank) return one.rank < other.rank ? -1 : 1;
      const ids = compareText(one.record.id, other.record.id);
      return ids || compareText(one.record.space ?? "", other.record.space ?? "");
    })
    .map(({ record }) => record);
}

/** How many characters the whole number of a rank has, with its first letter. */
function wholeLength(rank: string): number {
  const head = HEADS.indexOf(rank.charAt(0));
  return head < 26 ? 27 - head : head - 24;
}

function wholeOf(rank: string): string {
  return rank.slice(0, wholeLength(rank));
}

function before(high: string): string {
  const whole = wholeOf(high);
  if (whole === SMALLEST) return whole + middle("", high.slice(whole.length));
  if (whole < high) return whole;
  const less = decrement(whole);
  // The smallest whole number alone is no rank: there would be nothing before it.
  return less === SMALLEST ? less + middle("", null) : less;
}

/** The next whole number; null after the greatest. */
function increment(whole: string): string | null {
  const kept = whole.replace(/(?<=.)z+$/, "");
  if (kept.length > 1) return stepped(kept, 1) + "0".repeat(whole.length - kept.length);
  if (kept === "z") return null;
  const head = stepped(kept, 1);
  return head + "0".repeat(wholeLength(head) - 1);
}

/** The whole number before one that is not the smallest. */
function decrement(whole: string): string {
  const kept = whole.replace(/(?<=.)0+$/, "");
  if (kept.length > 1) return stepped(kept, -1) + "z".repeat(whole.length - kept.length);
  const head = stepped(kept, -1);
  return head + "z".repeat(wholeLength(head) - 1);
}

/** With another last character: the next one, or that before. As a head, `a` comes after `Z`. */
function stepped(text: string, by: 1 | -1): string {
  return text.slice(0, -1) + DIGITS.charAt(DIGITS.indexOf(text.slice(-1)) + by);
}

/** The digits of a fraction between two, `low` < `high`, neither with a 0 at its end; null is 1. */
function middle(low: string, high: string | null): string {
  let at = 0;
  if (high !== null) while ((low.charAt(at) || "0") === high.charAt(at)) at += 1;
  const made = [high === null ? "" : high.slice(0, at)];
  for (let upper = high; ; at += 1, upper = null) {
    const from = Math.max(0, DIGITS.indexOf(low.charAt(at) || "0"));
    const to = upper === null ? DIGITS.length : DIGITS.indexOf(upper.charAt(at));
    if (to - from > 1) return made.join("") + DIGITS.charAt((from + to + 1) >> 1);
    if (upper !== null && upper.length > at + 1) return made.join("") + upper.charAt(at);
    made.push(DIGITS.charAt(from));
  }
}
