/** Queries by field: conditions, order and page, decided in memory. Pure. */

import { checkId, checkSpace } from "./change.js";
import { InvalidQuery } from "./errors.js";
import { type Json, type JsonObject, same } from "./json.js";
import { type Registers, TOMBSTONE } from "./merge.js";
import { compareText, compareValues, kindOf } from "./order.js";
import type { Row } from "./records.js";

/** Asks every space. */
export const EVERY_SPACE = "*\0every space";

export type Operator = "=" | "!=" | "<" | "<=" | ">" | ">=" | "in";
type Ordered = number | bigint | string;

/** `{ ">=": 2, "<": 5 }` */
export interface Operators {
  readonly "="?: Json;
  readonly "!="?: Json;
  readonly "<"?: Ordered;
  readonly "<="?: Ordered;
  readonly ">"?: Ordered;
  readonly ">="?: Ordered;
  readonly in?: readonly Json[];
}

/**
 * `{ done: false, priority: { ">=": 2 } }`, or a list of `["priority", ">=", 2]`. All have to hold. A missing field
 * equals null; only numbers and texts have an order, each among themselves.
 */
export type Where<F extends object> =
  | { readonly [K in keyof F]?: F[K] | null | Operators }
  | readonly (readonly [field: keyof F & string, operator: Operator, operand: Json])[];

/**
 * `order`: field names, "-" in front for descending; null sorts first, then numbers, then texts by code point; ids
 * break ties. `space`: null for the personal one, or EVERY_SPACE.
 */
export interface QueryOptions {
  readonly order?: string | readonly string[];
  readonly limit?: number;
  readonly offset?: number;
  readonly space?: string | null;
  readonly deleted?: boolean;
}

interface Condition {
  readonly field: string;
  readonly operator: Operator;
  readonly operand: Json;
}

type Holds = (value: Json, operand: Json) => boolean;

const HOLDS: { readonly [operator in Operator]: Holds } = {
  "=": same,
  "!=": (value, operand) => !same(value, operand),
  in: (value, operand) => (operand as readonly Json[]).some((item) => same(value, item)),
  "<": ordered((order) => order < 0),
  "<=": ordered((order) => order <= 0),
  ">": ordered((order) => order > 0),
  ">=": ordered((order) => order >= 0),
};

function ordered(accepts: (order: number) => boolean): Holds {
  return (value, operand) => kindOf(value) === kindOf(operand) && accepts(compareValues(value, operand));
}

/** A query that was checked. `space`: null asks every space. */
export interface Asked {
  readonly table: string;
  readonly space: string | null;
  readonly matches: (view: Registers, deleted: boolean) => boolean;
  readonly arrange: <F extends object>(rows: Iterable<Row<F>>) => Row<F>[];
}

/** Raises InvalidQuery. */
export function compile(table: string, where: object, options: QueryOptions, user: string): Asked {
  const conditions = readConditions(where);
  const { order = [], limit = Infinity, offset = 0, deleted = false } = options;
  if (!(limit >= 0 && offset >= 0)) throw new InvalidQuery("limit and offset count from 0.");
  const compare = comparison(typeof order === "string" ? [order] : order);
  return {
    table: checkId("the table", table),
    space: options.space === EVERY_SPACE ? null : checkSpace(options.space, user, InvalidQuery),
    matches: (view, gone) => (deleted || !gone) && conditions.every((condition) => holds(condition, view)),
    arrange: (rows) => [...rows].sort(compare).slice(offset, offset + limit),
  };
}

function holds({ field, operator, operand }: Condition, view: Registers): boolean {
  return HOLDS[operator](view.get(field)?.value ?? null, operand);
}

function readConditions(where: object): Condition[] {
  const triples: readonly (readonly unknown[])[] = Array.isArray(where)
    ? where
    : Object.entries(where).flatMap(([field, asked]) => readMember(field, asked));
  return triples.map(readTriple);
}

/** An object of operators is several conditions; any other value is compared as it is. */
function readMember(field: string, asked: unknown): [string, string, unknown][] {
  const members = kindOf(asked as Json) === "object" ? Object.entries(asked as JsonObject) : [];
  if (members.length > 0 && members.every(([name]) => Object.hasOwn(HOLDS, name))) {
    return members.map(([operator, operand]) => [field, operator, operand]);
  }
  return [[field, "=", asked]];
}

function readTriple(triple: readonly unknown[]): Condition {
  const [field, operator, operand] = triple as [string, Operator, Json];
  if (triple.length !== 3 || !Object.hasOwn(HOLDS, operator) || operand === undefined) {
    throw new InvalidQuery(`a condition is [field, ${Object.keys(HOLDS)}, value].`);
  }
  checkId("a field name", field);
  if (/[<>]/.test(operator) && !["number", "text"].includes(kindOf(operand))) {
    throw new InvalidQuery(`${kindOf(operand)} has no order.`);
  }
  if (operator === "in" && !Array.isArray(operand)) throw new InvalidQuery("`in` needs a list of values.");
  return { field, operator, operand };
}

function comparison(order: readonly string[]): <F extends object>(one: Row<F>, other: Row<F>) => number {
  const terms = order.map((name) => {
    const descending = name.startsWith("-");
    return { field: checkId("an order field", descending ? name.slice(1) : name), sign: descending ? -1 : 1 };
  });
  return (one, other) => {
    for (const { field, sign } of terms) {
      const decided = compareValues(fieldOf(one, field), fieldOf(other, field));
      if (decided !== 0) return sign * decided;
    }
    return compareText(one.id, other.id) || compareText(one.space ?? "", other.space ?? "");
  };
}

function fieldOf<F extends object>(row: Row<F>, field: string): Json {
  if (field === TOMBSTONE) return row.deletedAt;
  return (row.fields as { readonly [field: string]: Json | undefined })[field] ?? null;
}
