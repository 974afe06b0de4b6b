/** Queries by field, decided in memory, and records by key: read once, or again whenever they may have changed. */

import { checkId, checkSpace, type Key, keyText } from "./data/change.js";
import type { Event, RecordKey } from "./data/events.js";
import { type Registers, TOMBSTONE } from "./data/merge.js";
import { compareText, compareValues, kindOf } from "./data/order.js";
import { type Row, rowOf } from "./data/row.js";
import { type Json, type JsonObject, same } from "./data/values.js";
import { InvalidQuery } from "./errors.js";
import { Observed, type Source } from "./store/observed.js";
import type { RecordRow, Transaction, Work } from "./store/store.js";

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
export interface CompiledQuery {
  readonly table: string;
  readonly space: string | null;
  readonly matches: (view: Registers, deleted: boolean) => boolean;
  readonly arrange: <F extends object>(rows: Iterable<Row<F>>) => Row<F>[];
}

/** Raises InvalidQuery. */
export function compile(table: string, where: object, options: QueryOptions, user: string): CompiledQuery {
  const conditions = readConditions(where);
  const { order = [], limit = Infinity, offset = 0, deleted = false } = options;
  if (!(limit >= 0 && offset >= 0)) throw new InvalidQuery("limit and offset count from 0.");
  const compare = comparison(typeof order === "string" ? [order] : order);
  return {
    table: checkId("the table", table, InvalidQuery),
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
    : Object.entries(where).flatMap(([field, asked]) => readOperators(field, asked));
  return triples.map(readTriple);
}

/** An object of operators is several conditions; any other value is compared as it is. */
function readOperators(field: string, asked: unknown): [string, string, unknown][] {
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
  checkId("a field name", field, InvalidQuery);
  if (/[<>]/.test(operator) && !["number", "text"].includes(kindOf(operand))) {
    throw new InvalidQuery(`${kindOf(operand)} has no order.`);
  }
  if (operator === "in" && !Array.isArray(operand)) throw new InvalidQuery("`in` needs a list of values.");
  return { field, operator, operand };
}

function comparison(order: readonly string[]): <F extends object>(one: Row<F>, other: Row<F>) => number {
  const terms = order.map((name) => {
    const descending = name.startsWith("-");
    const field = checkId("an order field", descending ? name.slice(1) : name, InvalidQuery);
    return { field, sign: descending ? -1 : 1 };
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

/** The records that a query asks for. Those that did not change stay the same objects from answer to answer. */
export class Query<F extends object> extends Observed<readonly Row<F>[]> {
  readonly #asked: CompiledQuery;
  /** All that match, by key, before order and limit; null: they have to be read, as after a read that failed. */
  #matching: Map<string, Row<F>> | null = null;
  #everything = true;
  readonly #changed = new Map<string, Key>();

  constructor(source: Source, asked: CompiledQuery) {
    super(source);
    this.#asked = asked;
  }

  protected override begin(): void {
    this.#everything = true;
  }

  protected concerns(event: Event): boolean {
    if (event.kind !== "changes") return false;
    const { table, space } = this.#asked;
    const wanted = event.records.filter(
      (record) => record.table === table && (space ?? record.space ?? "") === (record.space ?? ""),
    );
    for (const { space: held, id } of wanted)
      this.#changed.set(keyText([held ?? "", table, id]), [held ?? "", table, id]);
    if (event.everything) this.#everything = true;
    return event.everything || wanted.length > 0;
  }

  protected async now(): Promise<readonly Row<F>[]> {
    const matching = await this.source.read((tx) => this.#readAll(tx));
    return this.#asked.arrange(matching.values());
  }

  protected override async next(previous: readonly Row<F>[] | undefined): Promise<readonly Row<F>[]> {
    const changed = [...this.#changed.values()];
    const held = this.#everything ? null : this.#matching;
    this.#changed.clear();
    this.#everything = false;
    this.#matching = null;
    const read: Work<Map<string, Row<F>>> = (tx) =>
      held === null ? this.#readAll(tx) : this.#readSome(tx, held, changed);
    const matching = await this.source.read(read);
    this.#matching = matching;
    const rows = this.#asked.arrange(matching.values());
    return previous !== undefined && sameRows(previous, rows) ? previous : rows;
  }

  async #readAll(tx: Transaction): Promise<Map<string, Row<F>>> {
    const { table, space } = this.#asked;
    const rows = await (space === null
      ? tx.all("records", [table], "table")
      : tx.all("records", [space, table]));
    const matching = new Map<string, Row<F>>();
    for (const row of rows) this.#place(matching, row);
    return matching;
  }

  async #readSome(tx: Transaction, matching: Map<string, Row<F>>, keys: Key[]): Promise<Map<string, Row<F>>> {
    const rows = await Promise.all(keys.map((key) => tx.get("records", key)));
    for (const key of keys) matching.delete(keyText(key));
    for (const row of rows) if (row) this.#place(matching, row);
    return matching;
  }

  #place(matching: Map<string, Row<F>>, row: RecordRow): void {
    const { space, table, id, view, deleted } = row;
    if (this.#asked.matches(view, deleted)) matching.set(keyText([space, table, id]), rowOf<F>(row));
  }
}

function sameRows(one: readonly unknown[], other: readonly unknown[]): boolean {
  return one.length === other.length && one.every((row, place) => row === other[place]);
}

/** One record, or null where there is none (or it is deleted, and deleted ones were not asked for). */
export class RecordView<F extends object> extends Observed<Row<F> | null> {
  readonly #key: Key;
  readonly #deleted: boolean;

  constructor(source: Source, key: Key, deleted: boolean) {
    super(source);
    this.#key = key;
    this.#deleted = deleted;
  }

  protected concerns(event: Event): boolean {
    return event.kind === "changes" && (event.everything || event.records.some((record) => this.#is(record)));
  }

  #is({ space, table, id }: RecordKey): boolean {
    return id === this.#key[2] && table === this.#key[1] && (space ?? "") === this.#key[0];
  }

  protected async now(): Promise<Row<F> | null> {
    const row = await this.source.read((tx) => tx.get("records", this.#key));
    return row === undefined || (row.deleted && !this.#deleted) ? null : rowOf<F>(row);
  }
}
