/** JSON whose integers keep all their digits: those that a double would round are big integers. Pure. */

import { InvalidWrite } from "../errors.js";

/** Any JSON value. A `bigint` is an integer that `number` would round; it travels as a plain number. */
export type Json =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

const MAX_DEPTH = 64;
/** Only a run of 16 digits can be an integer beyond 2^53: without one the engine's own parser will do. */
const LONG = /\d{16}/;
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?[\d.eE+-]+/g;
const INTEGER = /^-?\d{16,}$/;

/** Parses JSON text. Raises SyntaxError. */
export function parse(text: string): Json {
  if (!LONG.test(text)) return JSON.parse(text) as Json;
  // Long integers travel through the engine's parser as texts that nothing else can be: U+0000 is never kept.
  const marked = text.replace(TOKEN, (token) => (INTEGER.test(token) ? `"\\u0000${token}"` : token));
  return JSON.parse(marked, (_key, value: unknown) =>
    typeof value === "string" && value.startsWith("\0") ? numberOf(value.slice(1)) : value,
  ) as Json;
}

/** A big integer as a number where that loses no digit, so that equal numbers are of one type. */
export function normal(value: bigint): number | bigint {
  return numberOf(`${value}`);
}

/** An integer in digits is a double where these are exactly how that double is printed, else it is a big one. */
function numberOf(digits: string): number | bigint {
  const [, first = "", rest = ""] = /^(-?\d)(\d*?)0*$/.exec(digits) ?? [];
  const printed = `${first}${rest && `.${rest}`}e+${digits.length - first.length}`;
  return Number(digits).toExponential() === printed ? Number(digits) : BigInt(digits);
}

/** Makes what several read unchangeable, all through. What is no object counts as frozen. */
export function freeze<T>(value: T): T {
  if (!Object.isFrozen(value)) for (const part of Object.values(Object.freeze(value) as object)) freeze(part);
  return value;
}

/** JSON text, compact. Members that are undefined are left out. */
export function dump(value: Json): string {
  try {
    return JSON.stringify(value);
  } catch {
    const marked = JSON.stringify(value, (_key, part) => (typeof part === "bigint" ? `\0${part}` : part));
    return marked.replace(/"\\u0000(-?\d+)"/g, "$1");
  }
}

/** Equality of JSON: true is not 1, 1n is 1, and the order of members does not matter. */
export function same(one: Json | undefined, other: Json | undefined): boolean {
  if (kindOf(one) !== kindOf(other)) return false;
  // biome-ignore lint/suspicious/noDoubleEquals: of one kind, so that it compares big integers with numbers by value.
  if (one == other || typeof one !== "object") return one == other;
  const [a, b] = [one as JsonObject, other as JsonObject];
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && same(a[key], b[key]))
  );
}

/**
 * A copy of its own, so that nobody changes it later. Raises InvalidWrite where it is no JSON that can be kept. `field` "": it
 * is only looked for, so that it may hold text that is nowhere.
 */
export function copy(value: unknown, path: string, field: string, depth: number): Json {
  if (value === null || typeof value === "boolean") return value;
  if (typeof value === "string") return checkText(value, path, field);
  if (typeof value === "object") return copyMembers(value, path, field, depth);
  if (typeof value !== "number" && typeof value !== "bigint")
    throw new InvalidWrite(`${path} is ${typeof value}, which is not JSON.`, field);
  if (!Number.isFinite(Number(value))) throw new InvalidWrite(`${path} is ${value}.`, field);
  return typeof value === "bigint" ? normal(value) : value;
}

function copyMembers(value: object, path: string, field: string, depth: number): Json {
  if (depth > MAX_DEPTH) throw new InvalidWrite(`${path} is deeper than ${MAX_DEPTH} levels.`, field);
  if (Array.isArray(value)) {
    return Array.from(value, (item, index) => copy(item, `${path}[${index}]`, field, depth + 1));
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    throw new InvalidWrite(`${path} is a ${value.constructor?.name}, which is not JSON.`, field);
  }
  const members = Object.entries(value).map(
    ([key, part]) => [checkText(key, path, field), copy(part, `${path}.${key}`, field, depth + 1)] as const,
  );
  return Object.fromEntries(members);
}

function checkText(text: string, path: string, field: string): string {
  if (field && /\0|\p{Cs}/u.test(text))
    throw new InvalidWrite(`${path} has a \\u0000 or a lone surrogate.`, field);
  return text;
}

/** The kind of a JSON value, as queries tell them apart: true is not 1. */
export type Kind = "null" | "boolean" | "number" | "text" | "list" | "object";

export function kindOf(value: Json | undefined): Kind {
  if (value === null || value === undefined) return "null";
  if (typeof value === "bigint") return "number";
  if (typeof value === "string") return "text";
  return Array.isArray(value) ? "list" : (typeof value as Kind);
}
