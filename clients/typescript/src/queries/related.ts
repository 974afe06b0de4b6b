/** The rows of a query with those that they are related to by an id. */

import type { Event } from "../data/events.js";
import type { Row } from "../data/row.js";
import type { Json } from "../data/values.js";
import { InvalidQuery } from "../errors.js";
import { type Path, Query, readerOf } from "../query.js";
import { Observed } from "../store/observed.js";
import type { Transaction } from "../store/store.js";

/**
 * `one`: the record of another query whose id stands in the field `by` of this one. `many`: the records of another query
 * whose field `by` holds the id of this one, in that query's order, at most `limit`. They are of the record's own space, unless
 * `anySpace`.
 */
export type Related<F extends object, G extends object> =
  | { readonly one: Query<G>; readonly by: Path<F>; readonly anySpace?: boolean }
  | {
      readonly many: Query<G>;
      readonly by: Path<G>;
      readonly limit?: number;
      readonly anySpace?: boolean;
    };

type Included<R> = {
  readonly [name in keyof R]: R[name] extends { readonly one: Query<infer G> }
    ? Row<G> | null
    : R[name] extends { readonly many: Query<infer G> }
      ? readonly Row<G>[]
      : never;
};

/** A row with the rows that it is related to. */
export type IncludedRow<F extends object, R> = Row<F> & { readonly included: Included<R> };

/** The rows of a query, each with those that it is related to, all read in one transaction. Raises InvalidQuery. */
export function include<F extends object, R extends { readonly [name: string]: object }>(
  query: Query<F>,
  related: R & { readonly [name in keyof R]: RelatedOf<F, R[name]> },
): Observed<readonly IncludedRow<F, R>[]> {
  return new Including<F, R>(query, related);
}

type RelatedOf<F extends object, One> = One extends
  | { readonly many: Query<infer G> }
  | { readonly one: Query<infer G> }
  ? Related<F, G>
  : never;

type AnyQuery = Query<object>;

class Including<F extends object, R> extends Observed<readonly IncludedRow<F, R>[]> {
  readonly #query: Query<F>;
  readonly #related: readonly (readonly [name: string, how: AnyRelated, of: AnyQuery])[];

  constructor(query: Query<F>, related: object) {
    super(query["source"]);
    this.#query = own(query);
    this.#related = Object.entries(related).map(
      ([name, how]) => [name, how, own(checkRelated(how))] as const,
    );
  }

  get #all(): readonly AnyQuery[] {
    return [this.#query as unknown as AnyQuery, ...this.#related.map(([, , of]) => of)];
  }

  protected override begin(): void {
    for (const each of this.#all) each["begin"]();
  }

  protected concerns(event: Event): boolean {
    return this.#all.map((each) => each["concerns"](event)).includes(true);
  }

  protected async now(): Promise<readonly IncludedRow<F, R>[]> {
    const fresh = new Including<F, R>(
      this.#query,
      Object.fromEntries(this.#related.map(([name, how]) => [name, how])),
    );
    return fresh.next();
  }

  protected override async next(): Promise<readonly IncludedRow<F, R>[]> {
    await Promise.all(this.#all.map((each) => each["source"].ready?.()));
    return this.source.read((tx) => this.#join(tx));
  }

  async #join(tx: Transaction): Promise<readonly IncludedRow<F, R>[]> {
    const rows = await this.#query["renew"](tx);
    const finders: [string, (row: Row<object>) => unknown][] = [];
    for (const [name, how, of] of this.#related) finders.push([name, finderOf(how, await of["renew"](tx))]);
    return rows.map((row) => {
      const included = Object.fromEntries(finders.map(([name, find]) => [name, find(row)]));
      return Object.freeze({ ...row, included: Object.freeze(included) }) as unknown as IncludedRow<F, R>;
    });
  }
}

interface AnyRelated {
  readonly one?: AnyQuery;
  readonly many?: AnyQuery;
  readonly by: string;
  readonly limit?: number;
  readonly anySpace?: boolean;
}

function checkRelated(how: AnyRelated): AnyQuery {
  const { one, many, by, limit, anySpace: _anySpace, ...unknown } = Object(how) as AnyRelated;
  const of = one ?? many;
  const most = limit ?? 0;
  if (
    !(of instanceof Query) ||
    (one && many) ||
    typeof by !== "string" ||
    !(Number.isInteger(most) && most >= 0) ||
    Object.keys(unknown).length > 0
  )
    throw new InvalidQuery(
      "what is related is { one: query, by: field }, or { many: query, by: field, limit }.",
    );
  return of;
}

/** A query that nobody else reads. */
function own<F extends object>(query: Query<F>): Query<F> {
  return new Query(query["source"], query["asked"]);
}

function finderOf(
  { one, by, limit, anySpace }: AnyRelated,
  rows: readonly Row<object>[],
): (row: Row<object>) => Row<object> | null | readonly Row<object>[] {
  const place = (row: Row<object>, id: Json): string => JSON.stringify([anySpace ? null : row.space, id]);
  const held = new Map<string, Row<object>[]>();
  for (const row of rows) {
    const id = one ? row.id : readerOf(row)(by);
    if (typeof id !== "string") continue;
    const name = place(row, id);
    const group = held.get(name) ?? [];
    group.push(row);
    held.set(name, group);
  }
  const find = (row: Row<object>, id: Json): readonly Row<object>[] => held.get(place(row, id)) ?? [];
  if (one)
    return (row) => {
      const id = readerOf(row)(by);
      return (typeof id === "string" && find(row, id)[0]) || null;
    };
  return (row) => Object.freeze(find(row, row.id).slice(0, limit ?? undefined));
}
