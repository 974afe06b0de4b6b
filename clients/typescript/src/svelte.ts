/**
 * @syncd/client/svelte: reads of a replica as Svelte's stores, and fields for inputs. What is given as a store is followed: in
 * Svelte 5 that is `toStore(() => id)` of `svelte/store`. A value is taken as it is, once.
 */

import { derived, get, type Readable, readable, type Writable } from "svelte/store";
import type { AnyTables, FieldsOf, Place, TableOf } from "./batch.js";
import type { Conflict } from "./data/change.js";
import type { JoinedSpace } from "./data/events.js";
import type { Row } from "./data/row.js";
import {
  type Field,
  type FieldName,
  type FieldOptions,
  type FieldState,
  fieldOf,
  NOT_READ,
  unwritten,
  type ValueOf,
} from "./field.js";
import {
  conflictsOf,
  type History,
  type HistoryOptions,
  type HistoryView,
  historyOf,
  pendingOf,
  rejectedOf,
  spacesOf,
} from "./observe.js";
import type { QueryOptions, Where } from "./query.js";
import type { Replica } from "./replica.js";
import type { SyncStatus } from "./status.js";
import type { Observed } from "./store/observed.js";
import type { Queued } from "./store/outbox.js";

type Answer<T> = Readable<T | undefined>;

type Given<T> = T | Readable<T>;

/** What is given, as a store. */
function storeOf<T>(given: Given<T>): Readable<T> {
  const follows = typeof given === "object" && given !== null && "subscribe" in given;
  return follows ? given : readable(given as T);
}

/** What is observed, say by `aggregate` of @syncd/client/query; undefined until it is read. `make` runs again where a store of `given` changes. */
export function useObserved<A extends unknown[], T>(
  given: { [place in keyof A]: Given<A[place]> },
  make: (...now: A) => Observed<T> | null | undefined,
): Answer<T> {
  const all = derived(given.map(storeOf), (now) => now as A);
  return derived<typeof all, T | undefined>(all, (now, set) => {
    set(undefined);
    return make(...now)?.subscribe(set);
  });
}

/** The records that a query asks for; undefined until they are read. */
export function useQuery<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  replica: Given<Replica<S> | null>,
  table: T,
  where: Given<Where<FieldsOf<S, T>>> = [],
  options: Given<QueryOptions<FieldsOf<S, T>>> = {},
): Answer<readonly Row<FieldsOf<S, T>>[]> {
  type Asked = [Replica<S> | null, Where<FieldsOf<S, T>>, QueryOptions<FieldsOf<S, T>>];
  return useObserved<Asked, readonly Row<FieldsOf<S, T>>[]>([replica, where, options], (from, said, how) =>
    from?.query(table, said, how),
  );
}

/** One record; null where there is none, undefined until it is read. */
export function useRecord<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  replica: Given<Replica<S> | null>,
  table: T,
  id: Given<string>,
  options: Place & { readonly deleted?: boolean } = {},
): Answer<Row<FieldsOf<S, T>> | null> {
  return useObserved<[Replica<S> | null, string], Row<FieldsOf<S, T>> | null>([replica, id], (from, at) =>
    from?.get(table, at, options),
  );
}

/** Where the replica stands as a whole; undefined until it is read. */
export function useStatus<S extends object>(replica: Given<Replica<S> | null>): Answer<SyncStatus> {
  return useObserved<[Replica<S> | null], SyncStatus>([replica], (from) => from?.status());
}

/** What stands against each other until `replica.clearConflicts`, oldest first; undefined until it is read. */
export function useConflicts<S extends object>(
  replica: Given<Replica<S> | null>,
): Answer<readonly Conflict[]> {
  return useObserved<[Replica<S> | null], readonly Conflict[]>(
    [replica],
    (from) => from && conflictsOf(from),
  );
}

/** What the server refused; undefined until it is read. */
export function useRejected<S extends object>(replica: Given<Replica<S> | null>): Answer<readonly Queued[]> {
  return useObserved<[Replica<S> | null], readonly Queued[]>([replica], (from) => from && rejectedOf(from));
}

/** What waits to be sent, in the order written; undefined until it is read. */
export function usePending<S extends object>(replica: Given<Replica<S> | null>): Answer<readonly Queued[]> {
  return useObserved<[Replica<S> | null], readonly Queued[]>([replica], (from) => from && pendingOf(from));
}

/** The user's shared spaces with their names and the user's roles, offline too; undefined until they are read. */
export function useSpaces<S extends object>(
  replica: Given<Replica<S> | null>,
): Answer<readonly JoinedSpace[]> {
  return useObserved<[Replica<S> | null], readonly JoinedSpace[]>(
    [replica],
    (from) => from && spacesOf(from),
  );
}

/** A record's history, undefined until it is read, and how to read more of it. */
export interface BoundHistory {
  readonly history: Answer<History>;
  readonly more: () => void;
}

/** A record's changes, newest first, asked of the server, and again where there are new ones. */
export function useHistory<S extends object = AnyTables>(
  replica: Given<Replica<S> | null>,
  table: TableOf<S>,
  id: Given<string>,
  options: HistoryOptions = {},
): BoundHistory {
  let view: HistoryView | null = null;
  const history = useObserved<[Replica<S> | null, string], History>([replica, id], (from, at) => {
    view = from && historyOf(from, table, at, options);
    return view;
  });
  return { history, more: () => view?.more() };
}

/** `<input bind:value={$value} readonly={$field.loading} onblur={onBlur} />`; `field` says the rest. */
export interface BoundField<V> {
  readonly value: Omit<Writable<V | undefined>, "update">;
  readonly field: Readable<FieldState<V>>;
  readonly onBlur: () => void;
  readonly dismiss: () => void;
}

/**
 * A field of a record for an input. What is typed is written after a pause, when it is left, and when it is gone. Another
 * record or replica is followed where they are given as stores.
 */
export function useField<
  S extends object = AnyTables,
  T extends TableOf<S> = TableOf<S>,
  F extends FieldName<S, T> = FieldName<S, T>,
>(
  replica: Given<Replica<S> | null>,
  table: T,
  id: Given<string>,
  field: F,
  options: FieldOptions = {},
): BoundField<ValueOf<S, T, F>> {
  type V = ValueOf<S, T, F>;
  let last: readonly [Replica<S> | null, string, Field<V> | null] | undefined;
  const fieldAt = (from: Replica<S> | null, at: string): Field<V> | null => {
    if (last?.[0] !== from || last[1] !== at)
      last = [from, at, from && fieldOf(from, table, at, field, options)];
    return last[2];
  };
  const held = derived([storeOf(replica), storeOf(id)], ([from, at]) => fieldAt(from, at));
  const now = derived<typeof held, FieldState<V>>(
    held,
    (one, set) => {
      if (one === null) set(NOT_READ);
      return one?.subscribe(set);
    },
    NOT_READ,
  );
  const { subscribe } = derived(now, ({ value }) => value);
  const set = (value: V | undefined): void => {
    const one = get(held);
    if (value === undefined) return;
    if (one) one.set(value);
    else unwritten(`${table}.${field}`, value, null, options);
  };
  return {
    value: { subscribe, set },
    field: now,
    onBlur: () => void get(held)?.flush(),
    dismiss: () => get(held)?.dismiss(),
  };
}
