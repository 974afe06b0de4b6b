/**
 * @syncd/client/indexes: indexes on fields, which are declared as `indexes` when a replica is opened. A query that one of them serves
 * uses it by itself, and `explain` says so.
 */

import type { AnyTables, FieldsOf, TableOf } from "../batch.js";
import { type IndexedFields, readIndexes } from "../data/indexed.js";
import type { CompiledQuery, Indexes, Query } from "../query.js";
import type { Source } from "../store/observed.js";
import { find } from "./find.js";
import { KeptIndexes } from "./kept.js";
import { noting } from "./noting.js";
import { type IndexPlan, planOf } from "./plan.js";

export type { Indexes } from "../query.js";

/** By table, fields or lists of them: those that are compared by `=`, and then one that has an order. */
export type DeclaredIndexes<S extends object> = {
  readonly [T in TableOf<S>]?: readonly (
    | (keyof FieldsOf<S, T> & string)
    | readonly (keyof FieldsOf<S, T> & string)[]
  )[];
};

/**
 * How a query is answered. `index`: the fields of the declared index that finds its records, null where all of the table in its
 * space are looked through. `sorted`: the index has them in order already, or at least by the first field. `decided`: it decides
 * the whole condition and order, so that no more records are read than are asked for.
 */
export interface QueryPlan {
  readonly index: readonly string[] | null;
  readonly sorted: boolean;
  readonly decided: boolean;
}

const plans = new WeakMap<object, IndexPlan>();

/** Indexes on fields, for `Replica.open`. They are all that there are to be. Raises InvalidQuery. */
export function indexes<S extends object = AnyTables>(declared: DeclaredIndexes<NoInfer<S>>): Indexes<S> {
  const fields = readIndexes(declared);
  const replicas = new WeakMap<object, Map<string, KeptIndexes>>();
  const plan = <F extends object>(source: Source, asked: CompiledQuery<F>): CompiledQuery<F> => {
    const kept = replicas.get(source) ?? new Map<string, KeptIndexes>();
    replicas.set(source, kept);
    return served(source, asked, fields, kept);
  };
  return Object.assign(plan, { declared, noting });
}

function served<F extends object>(
  source: Source,
  asked: CompiledQuery<F>,
  fields: IndexedFields,
  all: Map<string, KeptIndexes>,
): CompiledQuery<F> {
  const plan = planOf(asked, fields);
  if (!plan) return asked;
  const { range } = plan;
  const place = JSON.stringify([range.table, range.space]);
  const kept = all.get(place) ?? new KeptIndexes(source, range, fields.get(range.table) ?? []);
  all.set(place, kept);
  const found: CompiledQuery<F>["find"] = (tx, held, changed) =>
    find({ asked, plan, tx, before: (text) => (changed?.has(text) ? undefined : held.get(text)) }, kept);
  plans.set(found, plan);
  const ready = (): Promise<void> => kept.ready(range, async (tx) => tx.ranged?.(range, 0, 1));
  return {
    ...asked,
    find: found,
    source: { ...source, ready, read: (work) => ready().then(() => source.read(work)) },
  };
}

/** How a query of a replica is answered. */
export function explain<F extends object, A>(query: Query<F, A>): QueryPlan {
  const { find: found } = query["asked"];
  const plan = found && plans.get(found);
  return plan
    ? { index: plan.range.fields, sorted: plan.sorted, decided: plan.decided }
    : { index: null, sorted: false, decided: false };
}
