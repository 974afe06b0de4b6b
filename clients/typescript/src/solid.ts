/** @syncd/client/solid: reads of a replica as signals, and fields for inputs. What is given as a function is followed. */

import { type Accessor, createComputed, createSignal, onCleanup } from "solid-js";
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

type Answer<T> = Accessor<T | undefined>;

/** What is observed, say by `aggregate` of @syncd/client/query; undefined until it is read. `make` runs again where what it reads changes. */
export function useObserved<T>(make: () => Observed<T> | null | undefined): Answer<T> {
  const [answer, setAnswer] = createSignal<T>();
  createComputed(() => {
    setAnswer(undefined);
    const stop = make()?.subscribe((now) => setAnswer(() => now));
    if (stop) onCleanup(stop);
  });
  return answer;
}

/** The records that a query asks for; undefined until they are read. */
export function useQuery<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  replica: Accessor<Replica<S> | null | undefined>,
  table: T,
  where: Accessor<Where<FieldsOf<S, T>>> = () => [],
  options: Accessor<QueryOptions<FieldsOf<S, T>>> = () => ({}),
): Answer<readonly Row<FieldsOf<S, T>>[]> {
  return useObserved(() => replica()?.query(table, where(), options()));
}

/** One record; null where there is none, undefined until it is read. */
export function useRecord<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  replica: Accessor<Replica<S> | null | undefined>,
  table: T,
  id: Accessor<string>,
  options: Place & { readonly deleted?: boolean } = {},
): Answer<Row<FieldsOf<S, T>> | null> {
  return useObserved(() => replica()?.get(table, id(), options));
}

/** Where the replica stands as a whole; undefined until it is read. */
export function useStatus<S extends object>(
  replica: Accessor<Replica<S> | null | undefined>,
): Answer<SyncStatus> {
  return useObserved(() => replica()?.status());
}

/** What stands against each other until `replica.clearConflicts`, oldest first; undefined until it is read. */
export function useConflicts<S extends object>(
  replica: Accessor<Replica<S> | null | undefined>,
): Answer<readonly Conflict[]> {
  return useObserved(() => given(conflictsOf, replica()));
}

/** What the server refused; undefined until it is read. */
export function useRejected<S extends object>(
  replica: Accessor<Replica<S> | null | undefined>,
): Answer<readonly Queued[]> {
  return useObserved(() => given(rejectedOf, replica()));
}

/** What waits to be sent, in the order written; undefined until it is read. */
export function usePending<S extends object>(
  replica: Accessor<Replica<S> | null | undefined>,
): Answer<readonly Queued[]> {
  return useObserved(() => given(pendingOf, replica()));
}

/** The user's shared spaces with their names and the user's roles, offline too; undefined until they are read. */
export function useSpaces<S extends object>(
  replica: Accessor<Replica<S> | null | undefined>,
): Answer<readonly JoinedSpace[]> {
  return useObserved(() => given(spacesOf, replica()));
}

function given<S extends object, T>(
  of: (replica: Replica<S>) => Observed<T>,
  replica: Replica<S> | null | undefined,
): Observed<T> | null {
  return replica ? of(replica) : null;
}

/** A record's history, undefined until it is read, and how to read more of it. */
export interface BoundHistory {
  readonly history: Answer<History>;
  readonly more: () => void;
}

/** A record's changes, newest first, asked of the server, and again where there are new ones. */
export function useHistory<S extends object = AnyTables>(
  replica: Accessor<Replica<S> | null | undefined>,
  table: TableOf<S>,
  id: Accessor<string>,
  options: HistoryOptions = {},
): BoundHistory {
  let view: HistoryView | null = null;
  const history = useObserved(() => {
    const from = replica();
    view = from ? historyOf(from, table, id(), options) : null;
    return view;
  });
  return { history, more: () => view?.more() };
}

/** `<input value={title.value() ?? ""} readOnly={title.field().loading} onInput={(e) => title.set(e.currentTarget.value)} onBlur={title.onBlur} />` */
export interface BoundField<V> {
  readonly value: Accessor<V | undefined>;
  readonly field: Accessor<FieldState<V>>;
  readonly set: (value: V) => void;
  readonly onBlur: () => void;
  readonly dismiss: () => void;
}

/** A field of a record for an input. What is typed is written after a pause, when it is left, and when it is gone. */
export function useField<
  S extends object = AnyTables,
  T extends TableOf<S> = TableOf<S>,
  F extends FieldName<S, T> = FieldName<S, T>,
>(
  replica: Accessor<Replica<S> | null | undefined>,
  table: T,
  id: Accessor<string>,
  field: F,
  options: FieldOptions = {},
): BoundField<ValueOf<S, T, F>> {
  type V = ValueOf<S, T, F>;
  const [now, setNow] = createSignal<FieldState<V>>(NOT_READ);
  let held: Field<V> | undefined;
  createComputed(() => {
    const opened = replica();
    held = opened ? fieldOf(opened, table, id(), field, options) : undefined;
    setNow(NOT_READ);
    const stop = held?.subscribe((state) => setNow(() => state));
    if (stop) onCleanup(stop);
  });
  return {
    value: () => now().value,
    field: now,
    set: (value) => {
      if (held) held.set(value);
      else unwritten(`${table}.${field}`, value, null, options);
    },
    onBlur: () => void held?.flush(),
    dismiss: () => held?.dismiss(),
  };
}
