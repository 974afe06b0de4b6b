/** The order of texts and of JSON values, the same as the server's and the Python client's. Pure. */

import { dump, type Json } from "./json.js";

/**
 * Compares texts by their UTF-8 bytes, which is by code point. JavaScript's own `<` compares UTF-16 units and
 * puts U+E000 to U+FFFF behind the characters beyond them.
 */
export function compareText(one: string, other: string): number {
  const shorter = Math.min(one.length, other.length);
  for (let index = 0; index < shorter; index++) {
    const a = one.charCodeAt(index);
    const b = other.charCodeAt(index);
    if (a !== b) return rank(a) - rank(b);
  }
  return one.length - other.length;
}

/** A UTF-16 unit, with the surrogates moved behind everything else. */
function rank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/** The kind of a JSON value, as queries tell them apart: true is not 1. */
export type Kind = "null" | "boolean" | "number" | "text" | "list" | "object";

export function kindOf(value: Json | undefined): Kind {
  if (value === null || value === undefined) return "null";
  if (typeof value === "bigint") return "number";
  if (typeof value === "string") return "text";
  if (typeof value === "object") return Array.isArray(value) ? "list" : "object";
  return typeof value as "boolean" | "number";
}

/** Sorts null first, then numbers (false and true among them as 0 and 1), then texts, then the rest. */
export function compareValues(one: Json | undefined, other: Json | undefined): number {
  const group = groupOf(one);
  if (group !== groupOf(other)) return group - groupOf(other);
  if (group === 1) return compareNumbers(one as number, other as number);
  return compareText(asText(one), asText(other));
}

function groupOf(value: Json | undefined): number {
  return { null: 0, boolean: 1, number: 1, text: 2, list: 3, object: 3 }[kindOf(value)];
}

/** JavaScript compares numbers with big integers by value. */
function compareNumbers(one: number, other: number): number {
  return one < other ? -1 : Number(one > other);
}

function asText(value: Json | undefined): string {
  return typeof value === "string" ? value : dump(value ?? null);
}
