/** The order of texts and of JSON values, the same as the server's and the Python client's. Pure. */

import { type Json, kindOf } from "./values.js";

/**
 * Compares texts by their UTF-8 bytes, which is by code point. JavaScript's own `<` compares UTF-16 units and
 * puts U+E000 to U+FFFF behind the characters beyond them.
 */
export function compareText(one: string, other: string): number {
  let index = 0;
  while (index < one.length && one[index] === other[index]) index += 1;
  return (one.codePointAt(index) ?? -1) - (other.codePointAt(index) ?? -1);
}

const GROUPS = { null: 0, boolean: 1, number: 1, text: 2, list: 3, object: 4 };

/** Sorts null first, then numbers (false and true among them as 0 and 1), then texts, lists, objects. */
export function compareValues(one: Json | undefined, other: Json | undefined): number {
  if (typeof one === "string" && typeof other === "string") return compareText(one, other);
  const group = GROUPS[kindOf(one)];
  const groups = group - GROUPS[kindOf(other)];
  if (groups || group > 1) return groups;
  // JavaScript compares numbers with big integers by value.
  return +((one as number) > (other as number)) - +((one as number) < (other as number));
}
