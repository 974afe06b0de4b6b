/** Conditions beyond those of the core. Pure. */

import { compareValues, kindOf } from "../data/order.js";
import { dump, type Json, parse, same } from "../data/values.js";
import {
  type Condition,
  hasOrder,
  type Meaning,
  OPERATORS,
  type Operators,
  type Reader,
  readWhere,
  type Where,
} from "../query.js";

type Ordered = number | bigint | string;

/**
 * `contains`: a text in a text, or a value in a list. `startsWith`: the beginning of a text. `like`: a whole text, where `%` is
 * any text, `_` any character, `\` takes the next one as it is, and A to Z are as a to z. `between`: from the first to the second,
 * both included.
 */
export interface MoreOperators extends Operators {
  readonly contains?: Json;
  readonly startsWith?: string;
  readonly like?: string;
  readonly between?: readonly [Ordered, Ordered];
}

/** What `where`, `or`, `and` and `not` take. */
export type Asked<F extends object> = Where<F, MoreOperators>;

const isText = (operand: Json): boolean => typeof operand === "string";
const isSpan = (operand: Json): boolean =>
  Array.isArray(operand) &&
  operand.length === 2 &&
  hasOrder(operand[0]) &&
  kindOf(operand[0]) === kindOf(operand[1]);

const MORE: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  ...OPERATORS,
  ["contains", [contains]],
  [
    "startsWith",
    [(value, operand) => isText(value) && (value as string).startsWith(operand as string), isText],
  ],
  ["like", [like, isText]],
  ["between", [between, isSpan]],
]);

function contains(value: Json, operand: Json): boolean {
  if (Array.isArray(value)) return value.some((item) => same(item, operand));
  return typeof value === "string" && typeof operand === "string" && value.includes(operand);
}

function between(value: Json, operand: Json): boolean {
  const [low = null, high = null] = operand as readonly Json[];
  return kindOf(value) === kindOf(low) && compareValues(low, value) <= 0 && compareValues(value, high) <= 0;
}

const small = (text: string): string => text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());

function like(value: Json, operand: Json): boolean {
  if (typeof value !== "string") return false;
  const pattern = small(operand as string).replace(
    /\\(.)|[%_]|[\\^$.*+?()[\]{}|/]/gsu,
    (piece, escaped?: string) =>
      piece === "%" ? ".*" : piece === "_" ? "." : (escaped ?? piece).replace(/[\\^$.*+?()[\]{}|/]/, "\\$&"),
  );
  return new RegExp(`^${pattern}$`, "su").test(small(value));
}

/** All of these hold, with more operators than the core knows. Raises InvalidQuery. */
export function where<F extends object>(...asked: readonly Asked<NoInfer<F>>[]): Condition<F> {
  const all = asked.map((one) => readWhere(one, MORE));
  return condition((read) => all.every((holds) => holds(read)), asked);
}

/** The same, for those who read better with it. */
export const and = where;

/** One of these holds, or more. Raises InvalidQuery. */
export function or<F extends object>(...asked: readonly Asked<NoInfer<F>>[]): Condition<F> {
  const all = asked.map((one) => readWhere(one, MORE));
  return condition((read) => all.some((holds) => holds(read)), { or: asked });
}

/** This does not hold. Raises InvalidQuery. */
export function not<F extends object>(asked: Asked<NoInfer<F>>): Condition<F> {
  const holds = readWhere(asked, MORE);
  return condition((read) => !holds(read), { not: asked });
}

function condition<F extends object>(holds: (read: Reader) => boolean, says: unknown): Condition<F> {
  const said = parse(dump(says as Json)); // now: what the application gave may change
  return Object.assign(holds, { toJSON: () => said }) as Condition<F>;
}
