/** Queries by field, decided in memory, and records by key: read once, or again whenever they may have changed. */

import { checkId, checkSpace, type Key, keyText } from "./data/change.js";
import type { Event } from "./data/events.js";
import { type Registers, TOMBSTONE } from "./data/merge.js";
import { compareText, compareValues } from "./data/order.js";
import { type Row, rowOf, valueAt } from "./data/row.js";
import { copy, type Json, type JsonObject, kindOf, same } from "./data/values.js";
import { InvalidQuery } from "./errors.js";
import { Observed, type Source } from "./store/observed.js";
import type { IndexOptions } from "./store/open.js";
import { keyOf, type Transaction } from "./store/store.js";

/** Asks every space. */
export const EVERY_SPACE = "*\0every space";

/** What a V is compared with: a text with texts, a number with numbers. */
export type OrderOf<V> =
  | (V extends string ? string : never)
  | (V extends number | bigint ? number | bigint : never);

/** `{ ">=": 2, "<": 5 }`, for a field that holds a V. */
export interface Operators<V = Json> {
  readonly "="?: V | null;
  readonly "!="?: V | null;
  readonly "<"?: OrderOf<V>;
  readonly "<="?: OrderOf<V>;
  readonly ">"?: OrderOf<V>;
  readonly ">="?: OrderOf<V>;
  readonly in?: readonly (V | null)[];
}

export type Operator = keyof Operators;

/** The operators that there are for a field with an `of`. */
export interface OperatorsOf {
  readonly of: unknown;
  readonly operators: Operators<this["of"]>;
}
type On<V, O extends OperatorsOf> = (O & { readonly of: V })["operators"];

/**
 * A field, or what is in one that holds an object: `place.city`. A field of that very name, with the dot, goes first. Four
 * names deep they are checked.
 */
export type Path<F extends object, Deep extends readonly unknown[] = []> =
  | (keyof F & string)
  | { [K in keyof F & string]: PathIn<K, NonNullable<F[K]>, Deep> }[keyof F & string];
type PathIn<K extends string, V, Deep extends readonly unknown[]> = V extends readonly unknown[]
  ? never
  : V extends object
    ? string extends keyof V
      ? `${K}.${string}`
      : Deep["length"] extends 3
        ? `${K}.${string}`
        : `${K}.${Path<V, [...Deep, K]>}`
    : never;
type Plain<V> = V extends readonly unknown[] ? V : V extends object ? never : V;

/**
 * `{ done: false, priority: { ">=": 2 }, "place.city": "Oslo" }`, or a list of `["priority", ">=", 2]`. All have to hold. A
 * missing field equals null; only numbers and texts have an order, each among themselves. An object with members is
 * one of operators: `{ place: { "=": { city: "Oslo" } } }`. A `Condition` comes from @syncd/client/query.
 */
export type Where<F extends object, O extends OperatorsOf = OperatorsOf> =
  | { readonly [K in keyof F]?: Plain<F[K]> | null | On<NonNullable<F[K]>, O> }
  | WherePaths<Exclude<Path<F>, keyof F>, O>
  | readonly (readonly [field: Path<F>, operator: keyof On<Json, O> & string, operand: Json])[]
  | Condition<F>;

/** Nothing where there are no paths but fields: what has no member at all would take anything. */
type WherePaths<P extends string, O extends OperatorsOf> = [P] extends [never]
  ? never
  : { readonly [K in P]?: Plain<Json> | On<Json, O> };

/** Reads a field of a record, or what is at a path; null where there is none. */
export type Reader = (path: string) => Json;

/** A condition on records with the fields F that was checked. `toJSON`: what it says, for those who compare. */
export interface Condition<F extends object> {
  (read: Reader): boolean;
  toJSON(): Json;
  readonly fields?: (fields: F) => void;
}

/** Fields, "-" in front for descending. */
export type Order<F extends object> = Path<F> | `-${Path<F>}` | "deletedAt" | "-deletedAt";

/**
 * `order`: null sorts first, then numbers (false as 0, true as 1), then texts by code point, then lists and objects, which
 * have none among themselves; ids break ties. `after`: a row of the same order that the answer begins behind, say the last
 * one of the page before; it is as it was then. `space`: null for the personal one, or EVERY_SPACE.
 */
export interface QueryOptions<F extends object = { readonly [field: string]: Json }> {
  readonly order?: Order<F> | readonly Order<F>[];
  readonly limit?: number | null;
  readonly offset?: number;
  readonly after?: Row<F> | null;
  readonly space?: string | null;
  readonly deleted?: boolean;
}

/** Whether a value holds against an operand, and which operands there are. */
export type Meaning = readonly [
  holds: (value: Json, operand: Json) => boolean,
  takes?: (operand: Json) => unknown,
];

export const OPERATORS: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  ["=", [same]],
  ["!=", [(value, operand) => !same(value, operand)]],
  ["in", [(value, operand) => (operand as readonly Json[]).some((item) => same(value, item)), Array.isArray]],
  ["<", ordered((order) => order < 0)],
  ["<=", ordered((order) => order <= 0)],
  [">", ordered((order) => order > 0)],
  [">=", ordered((order) => order >= 0)],
]);

function ordered(accepts: (order: number) => boolean): Meaning {
  return [
    (value, operand) => kindOf(value) === kindOf(operand) && accepts(compareValues(value, operand)),
    hasOrder,
  ];
}

/** Whether there are smaller and greater ones of its kind. */
export function hasOrder(value: Json): boolean {
  return /r$|x/.test(kindOf(value)); // a number, a text
}

/** A query that was checked. `space`: null asks every space. `A`: what it answers of the rows that match. */
export interface CompiledQuery<F extends object, A = readonly Row<F>[]> extends QueryOptions<F> {
  readonly table: string;
  readonly space: string | null;
  readonly matches: (view: Registers, deleted: boolean) => boolean;
  readonly arrange: (rows: Iterable<Row<F>>) => A;
  /** What all of them fulfil, whatever else is asked. */
  readonly parts: readonly Triple[] | undefined;
  readonly compare: (one: Row<F>, other: Row<F>) => number;
  /**
   * Reads, by an index, what `arrange` needs. `held`: what was read before, by key, of which `changed` may read otherwise now.
   */
  readonly find?: (
    tx: Transaction,
    held: ReadonlyMap<string, Row<F>>,
    changed: ReadonlyMap<string, Key> | null,
  ) => Promise<Map<string, Row<F>>>;
  readonly source?: Source;
}

/** Declared indexes, which give a query of a source a `find`, and a source that is ready for it, where one of them serves it. */
export interface Indexes<S extends object> extends IndexOptions {
  <F extends object>(source: Source, asked: CompiledQuery<F>): CompiledQuery<F>;
  readonly tables?: (tables: S) => void;
}

/** Raises InvalidQuery. */
export function compile<F extends object>(
  table: string,
  where: object,
  options: QueryOptions<F>,
  user: string,
): CompiledQuery<F> {
  const holds = readWhere(where);
  const { offset = 0, deleted, after } = options;
  const limit = options.limit ?? 1e15;
  const terms = readOrder(options.order);
  const counted = [limit, offset].every((count) => Number.isInteger(count) && count >= 0);
  if (!counted || (after && after.table !== table)) throw new InvalidQuery("limit, offset, after?");
  const compare = (one: Row<F>, other: Row<F>): number => {
    for (const [path, sign] of terms) {
      const decided = compareValues(fieldOf(one, path), fieldOf(other, path));
      if (decided) return sign * decided;
    }
    return compareText(one.id, other.id) || compareText(one.space ?? "", other.space ?? "");
  };
  return {
    ...options,
    table: checkId("the table", table, InvalidQuery),
    space: options.space === EVERY_SPACE ? null : checkSpace(options.space, user, InvalidQuery),
    matches: (view, gone) =>
      (deleted || !gone) && holds((path) => valueAt((name) => view.get(name)?.value, path)),
    arrange: (rows) =>
      [...rows]
        .filter((row) => !after || compare(after, row) < 0)
        .sort(compare)
        .slice(offset, offset + limit),
    parts: holds.parts,
    compare,
  };
}

/** A part of a condition: a field or path, an operator, and what it compares with. */
export type Triple = readonly [path: string, operator: string, operand: Json];

/** A condition, and what all that fulfil it have in common. */
export interface ReadWhere {
  (read: Reader): boolean;
  readonly parts?: readonly Triple[];
}

/** A `where` as one condition. Raises InvalidQuery. */
export function readWhere(where: object, operators = OPERATORS): ReadWhere {
  if (typeof where === "function") return where as ReadWhere;
  try {
    // A copy, as deep as a value may be behind a field and an operator.
    const held = copy(where, "", "", -1) as JsonObject;
    const triples: readonly Triple[] = Array.isArray(held)
      ? held
      : // Raises for what is no object.
        Reflect.ownKeys(held).flatMap((path) => {
          const asked = held[path as string] as Json;
          const pairs = kindOf(asked) === "object" ? Object.entries(asked as object) : [];
          return (pairs[0] ? pairs : [["=", asked]]).map((pair) => [path, ...pair] as never);
        });
    const all = triples.map((triple) => readTriple(triple, operators));
    return Object.assign((read: Reader) => all.every((holds) => holds(read)), { parts: triples });
  } catch (error) {
    throw new InvalidQuery((error as Error).message);
  }
}

/** Raises whatever says why it is none. */
function readTriple(
  triple: readonly [path: string, operator: string, operand: Json],
  operators: typeof OPERATORS,
): (read: Reader) => boolean {
  const [path, operator, operand] = triple;
  checkId("a field name", path);
  const [holds, takes] = operators.get(operator) ?? [];
  if (holds && triple.length === 3 && takes?.(operand) !== false) return (read) => holds(read(path), operand);
  throw new Error(`no condition: ${path} ${operator}`);
}

/** A field of an order, and -1 where what is greater comes first. */
export type Term = readonly [path: string, sign: number];

/** Raises InvalidQuery. */
export function readOrder(order: string | readonly string[] = []): Term[] {
  return ([] as string[]).concat(order).map((name) => {
    const path = name?.replace?.(/^-/, "");
    return [checkId("a field name", path, InvalidQuery), path === name ? 1 : -1];
  });
}

/** What a row has at a path: as `readerOf`, and quick where that is a field. */
function fieldOf<F extends object>(row: Row<F>, path: string): Json {
  return Object.hasOwn(row.fields, path) ? ((row.fields as JsonObject)[path] as Json) : readerOf(row)(path);
}

/** Reads a row. */
export function readerOf<F extends object>({ fields, deletedAt }: Row<F>): Reader {
  return (path) =>
    valueAt(
      (name) =>
        name === TOMBSTONE
          ? deletedAt
          : Object.hasOwn(fields, name)
            ? (fields as JsonObject)[name]
            : undefined,
      path,
    );
}

/** The records that a query asks for. Those that did not change stay the same objects from answer to answer. */
export class Query<F extends object, A = readonly Row<F>[]> extends Observed<A> {
  // Private to TypeScript only: what counts and groups reaches it as query["asked"].
  declare private readonly asked: CompiledQuery<F, A>;
  /** All that match, by key, before order and limit. */
  #matching: Map<string, Row<F>> | null = null;
  /** What has changed of them; null: they have to be read, as after a read that failed. */
  #changed: Map<string, Key> | null = null;

  constructor(source: Source, asked: CompiledQuery<F, A>) {
    super(asked.source ?? source);
    this.asked = asked;
  }

  protected override begin(): void {
    this.#changed = null;
  }

  protected concerns(event: Event): boolean {
    if (event.kind !== "changes") return false;
    if (event.everything) this.#changed = null;
    for (const key of event.records.map(keyOf)) {
      if (key[1] === this.asked.table && (this.asked.space ?? key[0]) === key[0])
        this.#changed?.set(keyText(key), key);
    }
    return this.#changed?.size !== 0;
  }

  protected async now(): Promise<A> {
    const matching = await this.source.read((tx) => this.#read(tx));
    return this.asked.arrange(matching.values());
  }

  protected override next(): Promise<A> {
    return this.source.read((tx) => this.renew(tx));
  }

  /** The next answer, of what has changed since the last one. */
  private async renew(tx: Transaction): Promise<A> {
    const changed = this.#matching && this.#changed;
    const held = changed ? this.#matching : null;
    this.#changed = new Map();
    this.#matching = null;
    const matching = await this.#read(tx, held ?? new Map(), changed);
    this.#matching = matching;
    return this.asked.arrange(matching.values());
  }

  /** Reads all that match, or what has `changed` of them. */
  async #read(
    tx: Transaction,
    matching = new Map<string, Row<F>>(),
    changed: ReadonlyMap<string, Key> | null = null,
  ): Promise<Map<string, Row<F>>> {
    const { table, space, matches, find } = this.asked;
    if (find) return find(tx, matching, changed);
    const rows = await (changed
      ? Promise.all(Array.from(changed.values(), (key) => tx.get("records", key)))
      : space === null
        ? tx.all("records", [table], "table")
        : tx.all("records", [space, table]));
    for (const text of changed?.keys() ?? []) matching.delete(text);
    for (const row of rows)
      if (row && matches(row.view, row.deleted)) matching.set(keyText(keyOf(row)), rowOf<F>(row));
    return matching;
  }
}

/** One record, or null where there is none (or it is deleted, and deleted ones were not asked for). */
export class RecordView<F extends object> extends Observed<Row<F> | null> {
  readonly #key: Key;
  readonly #deleted: boolean | undefined;

  constructor(source: Source, key: Key, deleted?: boolean) {
    super(source);
    this.#key = key;
    this.#deleted = deleted;
  }

  protected concerns(event: Event): boolean {
    if (event.kind !== "changes") return false;
    const own = keyText(this.#key);
    return event.everything || event.records.some((one) => keyText(keyOf(one)) === own);
  }

  protected async now(): Promise<Row<F> | null> {
    const row = await this.source.read((tx) => tx.get("records", this.#key));
    return !row || (row.deleted && !this.#deleted) ? null : rowOf<F>(row);
  }
}
