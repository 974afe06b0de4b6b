/** @syncd/client/vue: reads of a replica as refs, and fields for inputs. What is given may be refs or getters. */

import {
  computed,
  type MaybeRefOrGetter as Given,
  type ShallowRef,
  shallowRef,
  toRaw,
  toValue,
  type WritableComputedRef,
  watchEffect,
} from "vue";
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

type Answer<T> = Readonly<ShallowRef<T | undefined>>;

/** Without the proxy of a plain `ref`, behind which a replica cannot work. */
function opened<S extends object>(replica: Given<Replica<S> | null>): Replica<S> | null {
  return toRaw(toValue(replica));
}

/** What is observed, say by `aggregate` of @syncd/client/query; undefined until it is read. `make` runs again where what it reads changes. */
export function useObserved<T>(make: () => Observed<T> | null | undefined): Answer<T> {
  const answer = shallowRef<T>();
  watchEffect((onCleanup) => {
    answer.value = undefined;
    const stop = make()?.subscribe((now) => {
      answer.value = now;
    });
    if (stop) onCleanup(stop);
  });
  return answer;
}

/** The records that a query asks for; undefined until they are read. */
export function useQuery<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  replica: Given<Replica<S> | null>,
  table: T,
  where: Given<Where<FieldsOf<S, T>>> = [],
  options: Given<QueryOptions<FieldsOf<S, T>>> = {},
): Answer<readonly Row<FieldsOf<S, T>>[]> {
  // A condition is a function, and no getter of one.
  const said = (): Where<FieldsOf<S, T>> =>
    typeof where === "function" && "toJSON" in where ? where : (toValue(where) as Where<FieldsOf<S, T>>);
  return useObserved(() => opened(replica)?.query(table, said(), toValue(options)));
}

/** One record; null where there is none, undefined until it is read. */
export function useRecord<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  replica: Given<Replica<S> | null>,
  table: T,
  id: Given<string>,
  options: Place & { readonly deleted?: boolean } = {},
): Answer<Row<FieldsOf<S, T>> | null> {
  return useObserved(() => opened(replica)?.get(table, toValue(id), options));
}

/** Where the replica stands as a whole; undefined until it is read. */
export function useStatus<S extends object>(replica: Given<Replica<S> | null>): Answer<SyncStatus> {
  return useObserved(() => opened(replica)?.status());
}

/** What stands against each other until `replica.clearConflicts`, oldest first; undefined until it is read. */
export function useConflicts<S extends object>(
  replica: Given<Replica<S> | null>,
): Answer<readonly Conflict[]> {
  return useObserved(() => given(conflictsOf, replica));
}

/** What the server refused; undefined until it is read. */
export function useRejected<S extends object>(replica: Given<Replica<S> | null>): Answer<readonly Queued[]> {
  return useObserved(() => given(rejectedOf, replica));
}

/** What waits to be sent, in the order written; undefined until it is read. */
export function usePending<S extends object>(replica: Given<Replica<S> | null>): Answer<readonly Queued[]> {
  return useObserved(() => given(pendingOf, replica));
}

/** The user's shared spaces with their names and the user's roles, offline too; undefined until they are read. */
export function useSpaces<S extends object>(
  replica: Given<Replica<S> | null>,
): Answer<readonly JoinedSpace[]> {
  return useObserved(() => given(spacesOf, replica));
}

function given<S extends object, T>(
  of: (replica: Replica<S>) => Observed<T>,
  replica: Given<Replica<S> | null>,
): Observed<T> | null {
  const from = opened(replica);
  return from && of(from);
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
  const history = useObserved(() => {
    const from = opened(replica);
    view = from && historyOf(from, table, toValue(id), options);
    return view;
  });
  return { history, more: () => view?.more() };
}

/** `value` is for `v-model`, `onBlur` for `@blur`; `field` says the rest, `field.loading` when the input is `readonly`. */
export interface BoundField<V> {
  readonly value: WritableComputedRef<V | undefined, V>;
  readonly field: Readonly<ShallowRef<FieldState<V>>>;
  readonly onBlur: () => void;
  readonly dismiss: () => void;
}

/** A field of a record for an input. What is typed is written after a pause, when it is left, and when it is gone. */
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
  const now = shallowRef<FieldState<V>>(NOT_READ);
  let held: Field<V> | null = null;
  watchEffect((onCleanup) => {
    const from = opened(replica);
    held = from && fieldOf(from, table, toValue(id), field, options);
    now.value = NOT_READ;
    const stop = held?.subscribe((state) => {
      now.value = state;
    });
    if (stop) onCleanup(stop);
  });
  const set = (typed: V): void => {
    if (held) held.set(typed);
    else unwritten(`${table}.${field}`, typed, null, options);
  };
  const value = computed({ get: () => now.value.value, set });
  return { value, field: now, onBlur: () => void held?.flush(), dismiss: () => held?.dismiss() };
}
