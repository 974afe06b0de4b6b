/** @syncd/client/svelte: reads of a replica as Svelte's stores, and fields for inputs. */

import { derived, type Readable, readable, type Writable } from "svelte/store";
import type { AnyTables, FieldsOf, Place, TableOf } from "./batch.js";
import type { Row } from "./data/row.js";
import { type FieldName, type FieldOptions, type FieldState, fieldOf, type ValueOf } from "./field.js";
import type { QueryOptions, Where } from "./query.js";
import type { Replica } from "./replica.js";
import type { SyncStatus } from "./status.js";
import type { Observed } from "./store/observed.js";

type Answer<T> = Readable<T | undefined>;

function observe<T>(observed: Observed<T>): Answer<T> {
  return readable<T | undefined>(undefined, (set) => observed.subscribe(set));
}

/** The records that a query asks for; undefined until they are read. */
export function useQuery<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  replica: Replica<S>,
  table: T,
  where: Where<FieldsOf<S, T>> = [],
  options: QueryOptions = {},
): Answer<readonly Row<FieldsOf<S, T>>[]> {
  return observe(replica.query(table, where, options));
}

/** One record; null where there is none, undefined until it is read. */
export function useRecord<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  replica: Replica<S>,
  table: T,
  id: string,
  options: Place & { readonly deleted?: boolean } = {},
): Answer<Row<FieldsOf<S, T>> | null> {
  return observe(replica.get(table, id, options));
}

/** Where the replica stands as a whole; undefined until it is read. */
export function useStatus<S extends object>(replica: Replica<S>): Answer<SyncStatus> {
  return observe(replica.status());
}

/** `<input bind:value={$value} onblur={onBlur} />`; `field` says the rest. */
export interface BoundField<V> {
  readonly value: Omit<Writable<V | undefined>, "update">;
  readonly field: Readable<FieldState<V>>;
  readonly onBlur: () => void;
  readonly dismiss: () => void;
}

/** A field of a record for an input. What is typed is written after a pause, when it is left, and when it is gone. */
export function useField<
  S extends object = AnyTables,
  T extends TableOf<S> = TableOf<S>,
  F extends FieldName<S, T> = FieldName<S, T>,
>(
  replica: Replica<S>,
  table: T,
  id: string,
  field: F,
  options: FieldOptions = {},
): BoundField<ValueOf<S, T, F>> {
  type V = ValueOf<S, T, F>;
  const held = fieldOf(replica, table, id, field, options);
  const now = readable<FieldState<V>>(held.current, (set) => held.subscribe(set));
  const { subscribe } = derived(now, ({ value }) => value);
  const set = (value: V | undefined): void => {
    if (value !== undefined) held.set(value);
  };
  return { value: { subscribe, set }, field: now, onBlur: () => void held.flush(), dismiss: held.dismiss };
}
