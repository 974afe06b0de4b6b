/** Indexes on fields: how they are declared, and what part of one a query reads. Pure. */

import { InvalidQuery } from "../errors.js";
import { checkId } from "./change.js";
import { compareValues } from "./order.js";
import { type Json, kindOf } from "./values.js";

/** Where a part of an index begins or ends, in the order of values. */
export interface Bound {
  readonly value: Json;
  readonly inclusive: boolean;
}

/**
 * A part of the index on `fields`, in one space, without deleted records: the first fields equal `equal`, and the next lies between
 * the bounds. Both may be a little too wide. It is read in the order of the `sorted` fields behind the equal ones, then of ids;
 * with `sorted` 0 and fields left, in any order.
 */
export interface IndexRange {
  readonly table: string;
  readonly space: string;
  readonly fields: readonly string[];
  readonly equal: readonly Json[];
  readonly low: Bound | null;
  readonly high: Bound | null;
  readonly sorted: number;
  readonly descending: boolean;
}

/** The declared indexes by table, each a list of fields. */
export type IndexedFields = ReadonlyMap<string, readonly (readonly string[])[]>;

/** What an application declares. Raises InvalidQuery. */
export function readIndexes(declared: object): IndexedFields {
  const read = new Map<string, readonly (readonly string[])[]>();
  for (const [table, all] of Object.entries(declared)) {
    checkId("the table", table, InvalidQuery);
    if (!Array.isArray(all)) throw new InvalidQuery(`the indexes of ${table} are a list.`);
    read.set(table, all.map(readFields));
  }
  return read;
}

function readFields(declared: string | readonly string[]): readonly string[] {
  const fields = Array.isArray(declared) ? [...(declared as readonly string[])] : [declared as string];
  if (!fields[0]) throw new InvalidQuery("an index is on one field or more.");
  for (const field of fields)
    if (/[."\\]/.test(checkId("a field name", field, InvalidQuery)))
      throw new InvalidQuery(`no index on ${field}: its name has a dot, a quote or a backslash.`);
  return fields;
}

/** Whether two numbers of this kind are told apart by every store; SQLite rounds others in their last digits. */
export function isExact(value: Json): boolean {
  return kindOf(value) !== "number" || Number.isSafeInteger(value);
}

/** Values on both sides of one so near that a store may not tell them apart. */
export function around(value: Json): readonly [low: number, high: number] {
  const number = Number(value);
  const span = Math.abs(number) * 1e-14 + Number.MIN_VALUE;
  return [number - span, number + span];
}

/** Whether two lists of values are in an order that every store sees: the first of them that differ say so. */
export function areApart(one: readonly Json[], other: readonly Json[]): boolean {
  const place = one.findIndex((value, at) => compareValues(value, other[at]) !== 0);
  if (place < 0) return false;
  const [value, against] = [one[place] as Json, other[place] as Json];
  if ((isExact(value) && isExact(against)) || kindOf(value) !== kindOf(against)) return true;
  const [low, high] = around(value);
  return Number(against) < low || Number(against) > high;
}
