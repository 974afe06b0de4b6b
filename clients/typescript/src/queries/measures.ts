/** What is counted, summed and grouped of the rows of a query. */

import { compareValues } from "../data/order.js";
import type { Row } from "../data/row.js";
import { dump, type Json, type JsonObject, kindOf, normal } from "../data/values.js";
import { InvalidQuery } from "../errors.js";
import { type Path, Query, readerOf } from "../query.js";

/**
 * `"count"`: how many records; `{ count: field }`: of those how many have a value there. `{ sum: field }`: of the numbers there,
 * exact where they are integers; 0 where there are none. `{ min: field }`, `{ max: field }`: the first and the last in the order
 * of a query of what is there, without null, lists and objects; null where there is nothing.
 */
export type Measure<P extends string = string> =
  | "count"
  | { readonly count: P }
  | { readonly sum: P }
  | { readonly min: P }
  | { readonly max: P };

type Measured<M> = {
  readonly [name in keyof M]: M[name] extends "count" | { readonly count: string }
    ? number
    : M[name] extends { readonly sum: string }
      ? number | bigint
      : Json;
};

/** What the records of a query come to, its limit included. Raises InvalidQuery. */
export function aggregate<F extends object, const M extends { readonly [name: string]: Measure<Path<F>> }>(
  query: Query<F>,
  measures: M,
): Query<F, Measured<M>> {
  const take = readMeasures(measures);
  return derived(query, (rows) => take(rows) as Measured<M>);
}

/**
 * The same for each value of a field, which is `by`: null for those that have none. In the order of a query; groups that have
 * none stand in the order of their first records. Raises InvalidQuery.
 */
export function groupBy<F extends object, const M extends { readonly [name: string]: Measure<Path<F>> }>(
  query: Query<F>,
  by: Path<F>,
  measures: M,
): Query<F, readonly (Measured<M> & { readonly by: Json })[]> {
  const take = readMeasures(measures);
  if (typeof by !== "string" || Object.hasOwn(measures, "by"))
    throw new InvalidQuery("a group is by one field, and `by` is its value.");
  type Group = Measured<M> & { readonly by: Json };
  return derived(query, (rows): readonly Group[] =>
    grouped(rows, by)
      .map(([value, group]) => ({ ...take(group), by: value }) as Measured<M> & { readonly by: Json })
      .sort((one, other) => compareValues(one.by, other.by)),
  );
}

function derived<F extends object, A>(query: Query<F>, derive: (rows: readonly Row<F>[]) => A): Query<F, A> {
  const asked = query["asked"];
  return new Query(query["source"], { ...asked, arrange: (rows) => derive(asked.arrange(rows)) });
}

function grouped<F extends object>(rows: readonly Row<F>[], by: string): [Json, Row<F>[]][] {
  const groups = new Map<string, [Json, Row<F>[]]>();
  for (const row of rows) {
    const value = readerOf(row)(by);
    const name = dump(canonical(value));
    const group = groups.get(name) ?? [value, []];
    group[1].push(row);
    groups.set(name, group);
  }
  return [...groups.values()];
}

/** Said so that equal values, and no others, have one text: the members of objects are in one order. */
function canonical(value: Json): Json {
  if (Array.isArray(value)) return ["list", ...value.map(canonical)];
  if (typeof value === "number" && Number.isInteger(value)) return BigInt(value);
  if (kindOf(value) !== "object") return value;
  const members = Object.entries(value as JsonObject).sort(([one], [other]) => (one < other ? -1 : 1));
  return ["object", ...members.map(([name, part]) => [name, canonical(part)])];
}

function readMeasures(measures: object): (rows: readonly Row<object>[]) => JsonObject {
  const all = Object.entries(measures).map(([name, measure]) => [name, readMeasure(measure)] as const);
  return (rows) => Object.fromEntries(all.map(([name, take]) => [name, take(rows)]));
}

const MEASURES: ReadonlyMap<string, (values: readonly Json[]) => Json> = new Map([
  ["count", (values: readonly Json[]): Json => values.filter((value) => value !== null).length],
  ["sum", sumOf],
  ["min", (values: readonly Json[]): Json => extreme(values, -1)],
  ["max", (values: readonly Json[]): Json => extreme(values, 1)],
]);

function readMeasure(measure: unknown): (rows: readonly Row<object>[]) => Json {
  if (measure === "count") return (rows) => rows.length;
  const [[word, path] = [], ...more] = Object.entries(Object(measure));
  const take = MEASURES.get(word as string);
  if (!take || typeof path !== "string" || more.length > 0 || typeof measure !== "object")
    throw new InvalidQuery('a measure is "count", or one of { count, sum, min, max } of a field.');
  return (rows) => take(rows.map((row) => readerOf(row)(path)));
}

function extreme(values: readonly Json[], sign: 1 | -1): Json {
  let found: Json = null;
  for (const value of values)
    if (typeof value !== "object" && (found === null || sign * compareValues(value, found) > 0))
      found = value;
  return found;
}

/** Exact where all are integers, else the double that is next to the exact sum. */
function sumOf(values: readonly Json[]): Json {
  const numbers = values.filter((value) => kindOf(value) === "number") as (number | bigint)[];
  const whole = numbers.filter((value) => typeof value === "bigint" || Number.isInteger(value));
  const sum = normal(whole.reduce((all: bigint, value) => all + BigInt(value), 0n));
  if (whole.length === numbers.length) return sum;
  const exact = roundedSum(numbers.map(Number));
  return Number.isFinite(exact) ? exact : sum;
}

/** Shewchuk's: partial sums that do not overlap, of which the exact sum consists. As `math.fsum` in Python. */
function roundedSum(values: readonly number[]): number {
  const partials: number[] = [];
  for (let value of values) {
    let kept = 0;
    for (let part of partials) {
      if (Math.abs(value) < Math.abs(part)) [value, part] = [part, value];
      const high = value + part;
      const low = part - (high - value);
      if (low) partials[kept++] = low;
      value = high;
    }
    partials.length = kept;
    partials.push(value);
  }
  let [high, low] = [partials.pop() ?? 0, 0];
  while (partials.length > 0 && !low) {
    const [before, part] = [high, partials.pop() as number];
    high = before + part;
    low = part - (high - before);
  }
  // Half-way cases go by what is below them.
  const below = partials.at(-1) ?? 0;
  const doubled = 2 * low;
  return low !== 0 && Math.sign(low) === Math.sign(below) && high + doubled - high === doubled
    ? high + doubled
    : high;
}
