/** Conditions beyond those of the core. Pure. */

import { compareValues } from "../data/order.js";
import { copy, type Json, kindOf, same } from "../data/values.js";
import { InvalidQuery } from "../errors.js";
import {
  type Condition,
  hasOrder,
  type Meaning,
  OPERATORS,
  type Operators,
  type OperatorsOf,
  type OrderOf,
  type Reader,
  readWhere,
  type Triple,
  type Where,
} from "../query.js";
import { readPattern } from "./patterns.js";

/**
 * `contains`: a text in a text, or a value in a list. `startsWith`: the beginning of a text. `like`: a whole text, where `%` is
 * any text, `_` any character, `\` takes the next one as it is, and A to Z are as a to z. `between`: from the first to the second,
 * both included.
 */
export interface MoreOperators<V = Json> extends Operators<V> {
  readonly contains?: V extends string ? string : V extends readonly (infer I)[] ? I | null : never;
  readonly startsWith?: V extends string ? string : never;
  readonly like?: V extends string ? string : never;
  readonly between?: readonly [OrderOf<V>, OrderOf<V>];
}

/** The operators that there are in here for a field with an `of`. */
interface MoreOperatorsOf extends OperatorsOf {
  readonly operators: MoreOperators<this["of"]>;
}

/** What `where`, `or`, `and` and `not` take. */
export type Asked<F extends object> = Where<F, MoreOperatorsOf>;

const isText = (operand: Json): boolean => typeof operand === "string";
const isSpan = (operand: Json): boolean =>
  Array.isArray(operand) &&
  operand.length === 2 &&
  hasOrder(operand[0]) &&
  kindOf(operand[0]) === kindOf(operand[1]);

/** What the operators of one condition mean: it keeps its patterns, so that they are read once and not for each record. */
function meanings(): ReadonlyMap<string, Meaning> {
  const patterns = new Map<Json, (text: string) => boolean>();
  return new Map<string, Meaning>([
    ...OPERATORS,
    ["contains", [contains]],
    [
      "startsWith",
      [(value, operand) => isPart(operand) && isText(value) && (value as string).startsWith(operand), isText],
    ],
    [
      "like",
      [
        (value, operand) => typeof value === "string" && patterns.get(operand)?.(value) === true,
        (operand) => typeof operand === "string" && patterns.set(operand, readPattern(operand)),
      ],
    ],
    ["between", [between, isSpan]],
  ]);
}

/** No record has half a pair of surrogates, and half a character is no part of one. */
function isPart(operand: Json): operand is string {
  return typeof operand === "string" && !/\p{Cs}/u.test(operand);
}

function contains(value: Json, operand: Json): boolean {
  if (Array.isArray(value)) return value.some((item) => same(item, operand));
  return typeof value === "string" && isPart(operand) && value.includes(operand);
}

function between(value: Json, operand: Json): boolean {
  const [low = null, high = null] = operand as readonly Json[];
  return kindOf(value) === kindOf(low) && compareValues(low, value) <= 0 && compareValues(value, high) <= 0;
}

/** Stands for a condition of others, such as `or`: no index serves it. */
const UNSAID: Triple = ["", "", null];

/** All of these hold, with more operators than the core knows. Raises InvalidQuery. */
export function where<F extends object>(...asked: readonly Asked<NoInfer<F>>[]): Condition<F> {
  const all = asked.map((one) => readWhere(one, meanings()));
  const parts = all.flatMap((holds) => holds.parts ?? [UNSAID]);
  return condition(
    Object.assign((read: Reader) => all.every((holds) => holds(read)), { parts }),
    asked,
    asked,
  );
}

/** The same, for those who read better with it. */
export const and = where;

/** One of these holds, or more. Raises InvalidQuery. */
export function or<F extends object>(...asked: readonly Asked<NoInfer<F>>[]): Condition<F> {
  const all = asked.map((one) => readWhere(one, meanings()));
  return condition((read) => all.some((holds) => holds(read)), { or: asked }, asked);
}

/** This does not hold. Raises InvalidQuery. */
export function not<F extends object>(asked: Asked<NoInfer<F>>): Condition<F> {
  const holds = readWhere(asked, meanings());
  return condition((read) => !holds(read), { not: asked }, [asked]);
}

/** How deep `where`, `or` and `not` may be in one another, as in Python. */
const DEEPEST = 100;
const depths = new WeakMap<object, number>();

function condition<F extends object>(
  holds: (read: Reader) => boolean,
  says: unknown,
  parts: readonly object[],
): Condition<F> {
  const depth = 1 + parts.reduce((most, part) => Math.max(most, depths.get(part) ?? 0), 0);
  if (depth > DEEPEST) throw new InvalidQuery(`conditions are nested deeper than ${DEEPEST}.`);
  depths.set(holds, depth);
  // Now, for what the application gave may change; and as deep as it is, for what was read of it is not too deep.
  const said = copy(plain(says), "", "", Number.NEGATIVE_INFINITY);
  return Object.assign(holds, { toJSON: () => said }) as Condition<F>;
}

/** With conditions as what they say. */
function plain(says: unknown): unknown {
  if (typeof says === "function") return (says as Condition<object>).toJSON();
  if (Array.isArray(says)) return says.map(plain);
  if (kindOf(says as Json) !== "object") return says;
  return Object.fromEntries(Object.entries(says as object).map(([name, part]) => [name, plain(part)]));
}
