/** Which index serves a query, and what part of it. Pure. */

import type { Bound, IndexedFields, IndexRange } from "../data/indexed.js";
import { compareValues } from "../data/order.js";
import { type Json, kindOf } from "../data/values.js";
import { type CompiledQuery, readerOf, readOrder, type Term, type Triple } from "../query.js";

/** How a query is answered by an index. */
export interface IndexPlan {
  readonly range: IndexRange;
  /** Whether the records come in the order that is asked, or at least by its first field. */
  readonly sorted: boolean;
  /** Whether they come in the very order, ids included. */
  readonly exact: boolean;
  /** Whether the index decides the whole condition and order. */
  readonly decided: boolean;
}

type Bounds = readonly [low: Bound | null, high: Bound | null];

/** The plan that reads the least, as far as that can be told; null where no index serves. */
export function planOf<F extends object>(asked: CompiledQuery<F>, declared: IndexedFields): IndexPlan | null {
  if (asked.space === null || asked.deleted) return null;
  const plans = (declared.get(asked.table) ?? []).map((fields) => planBy(asked, asked.space ?? "", fields));
  const served = plans.filter((plan) => plan !== null);
  return served.sort((one, other) => worth(other) - worth(one))[0] ?? null;
}

/** Equal fields say the most, then bounds, then an order. */
function worth({ range: { equal, low, high }, sorted, decided }: IndexPlan): number {
  return equal.length * 8 + (low || high ? 4 : 0) + (sorted ? 2 : 0) + Number(decided);
}

function planBy<F extends object>(
  asked: CompiledQuery<F>,
  space: string,
  fields: readonly string[],
): IndexPlan | null {
  const triples = (asked.parts ?? []).filter(([, , operand]) => isSaid(operand));
  const used = new Set<Triple>();
  const equal = equalOf(triples, fields, used);
  const next = fields[equal.length];
  const bounds: Bounds = next === undefined ? [null, null] : boundsOf(triples, next, used);
  const terms = readOrder(asked.order).filter(([path]) => !fields.slice(0, equal.length).includes(path));
  const order = orderOf(terms, fields.slice(equal.length));
  const [low, high] =
    order.sorted && asked.after ? behind(asked, { fields, equal, ...order }, bounds) : bounds;
  if (!equal.length && !low && !high && !(order.sorted && asked.limit !== null && asked.limit !== undefined))
    return null;
  const range: IndexRange = { table: asked.table, space, fields, equal, low, high, ...order };
  const rest = fields.length - equal.length;
  const exact = order.sorted === rest && order.sorted === terms.length;
  const whole = asked.parts?.every((triple) => used.has(triple)) ?? false;
  return { range, sorted: order.sorted > 0 || exact, exact, decided: whole && exact };
}

/** Whether a store has it as it is: half a pair of surrogates stands nowhere. */
function isSaid(operand: Json): boolean {
  if (Array.isArray(operand)) return operand.every(isSaid);
  return typeof operand !== "string" || !/\0|\p{Cs}/u.test(operand);
}

/** The values of the first fields that are compared by `=`. */
function equalOf(triples: readonly Triple[], fields: readonly string[], used: Set<Triple>): Json[] {
  const equal: Json[] = [];
  for (const field of fields) {
    const found = triples.find(([path, operator]) => path === field && operator === "=");
    if (!found) break;
    used.add(found);
    equal.push(found[2]);
  }
  return equal;
}

/** Between what a field lies by its comparisons. */
function boundsOf(triples: readonly Triple[], field: string, used: Set<Triple>): Bounds {
  let bounds: Bounds = [null, null];
  for (const triple of triples) {
    const [low, high] = triple[0] === field ? boundsBy(triple) : [];
    if (!low || !high) continue;
    used.add(triple);
    bounds = [narrower(bounds[0], low, 1), narrower(bounds[1], high, -1)];
  }
  return bounds;
}

/** The bounds of one comparison, of which there are always two: what it is compared with has to be of one kind with it. */
function boundsBy([, operator, operand]: Triple): readonly Bound[] {
  const [from, to] = (operator === "between" ? operand : [operand, operand]) as readonly [Json, Json];
  const text = kindOf(from) === "text";
  const least: Bound = { value: text ? "" : -Infinity, inclusive: true };
  const greatest: Bound = { value: text ? [] : Infinity, inclusive: false };
  const low: Bound = { value: from, inclusive: operator !== ">" };
  const high: Bound = { value: to, inclusive: operator !== "<" };
  if (operator === "between") return [low, high];
  if (operator === ">" || operator === ">=") return [low, greatest];
  return operator === "<" || operator === "<=" ? [least, high] : [];
}

/** The bound that leaves less; of equal ones the first, for the other's records are decided one by one. */
function narrower(one: Bound | null, other: Bound, sign: 1 | -1): Bound {
  return one && sign * compareValues(one.value, other.value) >= 0 ? one : other;
}

/** How many of the fields are the first of the order, all one way. */
function orderOf(
  terms: readonly Term[],
  fields: readonly string[],
): { readonly sorted: number; readonly descending: boolean } {
  const sign = terms[0]?.[1] ?? 1;
  const other = terms.findIndex(([path, way], n) => path !== fields[n] || way !== sign);
  return { sorted: other < 0 ? terms.length : other, descending: sign < 0 };
}

/** With what a page begins behind as a bound. */
function behind<F extends object>(
  { after }: CompiledQuery<F>,
  { fields, equal, descending }: Pick<IndexRange, "fields" | "equal" | "descending">,
  [low, high]: Bounds,
): Bounds {
  const field = fields[equal.length];
  if (!after || field === undefined) return [low, high];
  // A record with other values in the equal fields lies before all of them, or behind.
  if (equal.some((value, n) => compareValues(readerOf(after)(fields[n] as string), value) !== 0))
    return [low, high];
  const bound = { value: readerOf(after)(field), inclusive: true };
  return descending ? [low, narrower(high, bound, -1)] : [narrower(low, bound, 1), high];
}
