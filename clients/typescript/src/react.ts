/** Thin hooks for React: each one subscribes to a read of a replica, and renders again with each new answer. */

import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react";
import type { AnyTables, FieldsOf, Place, TableOf } from "./batch.js";
import type { Conflict } from "./data/change.js";
import type { JoinedSpace, Presence } from "./data/events.js";
import type { Row } from "./data/row.js";
import { dump, type Json } from "./data/values.js";
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
import type { Live } from "./live/live.js";
import {
  conflictsOf,
  type History,
  type HistoryOptions,
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

const UNDEFINED = (): undefined => undefined;
const NEVER = (): (() => void) => UNDEFINED;
const NOBODY: readonly Presence[] = [];

/**
 * What is observed, say by `aggregate` or `include` of @syncd/client/query; undefined until it is read. Make it in a `useMemo`: it
 * begins again with each other one.
 */
export function useObserved<T>(observed: Observed<T> | null): T | undefined {
  const subscribe = useCallback(
    (changed: () => void) => observed?.subscribe(changed) ?? UNDEFINED,
    [observed],
  );
  return useSyncExternalStore(subscribe, () => observed?.current, UNDEFINED);
}

/**
 * The records that a query asks for; undefined until they are read. `where` and `options` may be written in place:
 * they are compared by what they say. A replica that is null, because it is being opened, has nothing yet.
 */
export function useQuery<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  replica: Replica<S> | null,
  table: T,
  where: Where<FieldsOf<S, T>> = [],
  options: QueryOptions<FieldsOf<S, T>> = {},
): readonly Row<FieldsOf<S, T>>[] | undefined {
  const asked = dump([where, options] as unknown as Json);
  const query = useMemo(() => replica?.query(table, where, options) ?? null, [replica, table, asked]);
  return useObserved(query);
}

/** One record; null where there is none, undefined until it is read. */
export function useRecord<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  replica: Replica<S> | null,
  table: T,
  id: string,
  { space = null, deleted = false }: Place & { readonly deleted?: boolean } = {},
): Row<FieldsOf<S, T>> | null | undefined {
  const view = useMemo(
    () => replica?.get(table, id, { space, deleted }) ?? null,
    [replica, table, id, space, deleted],
  );
  return useObserved(view);
}

/** Where the replica stands as a whole; undefined until it is read. */
export function useStatus<S extends object>(replica: Replica<S> | null): SyncStatus | undefined {
  return useObserved(useMemo(() => replica?.status() ?? null, [replica]));
}

/** What stands against each other until `replica.clearConflicts`, oldest first; undefined until it is read. */
export function useConflicts<S extends object>(replica: Replica<S> | null): readonly Conflict[] | undefined {
  return useObserved(useMemo(() => replica && conflictsOf(replica), [replica]));
}

/** What the server refused; undefined until it is read. */
export function useRejected<S extends object>(replica: Replica<S> | null): readonly Queued[] | undefined {
  return useObserved(useMemo(() => replica && rejectedOf(replica), [replica]));
}

/** What waits to be sent, in the order written; undefined until it is read. */
export function usePending<S extends object>(replica: Replica<S> | null): readonly Queued[] | undefined {
  return useObserved(useMemo(() => replica && pendingOf(replica), [replica]));
}

/** The user's shared spaces with their names and the user's roles, offline too; undefined until they are read. */
export function useSpaces<S extends object>(replica: Replica<S> | null): readonly JoinedSpace[] | undefined {
  return useObserved(useMemo(() => replica && spacesOf(replica), [replica]));
}

/** A record's history, and how to read more of it. `loading`: nothing is read yet. */
export interface BoundHistory extends History {
  readonly loading: boolean;
  readonly more: () => void;
}

const NO_HISTORY: History = { changes: [], hasMore: false, error: null };

/** A record's changes, newest first, asked of the server, and again where there are new ones. */
export function useHistory<S extends object = AnyTables>(
  replica: Replica<S> | null,
  table: TableOf<S>,
  id: string,
  { space = null, page = 100 }: HistoryOptions = {},
): BoundHistory {
  const view = useMemo(
    () => replica && historyOf(replica, table, id, { space, page }),
    [replica, table, id, space, page],
  );
  const read = useObserved(view);
  return useMemo(
    () => ({ ...(read ?? NO_HISTORY), loading: read === undefined, more: view?.more ?? UNDEFINED }),
    [view, read],
  );
}

/** The other devices that are in a space now. Tell them of this one with `live.presence`. */
export function usePresence(live: Live | null, space: string | null = null): readonly Presence[] {
  const subscribe = useCallback((changed: () => void) => live?.onPeers(changed) ?? UNDEFINED, [live]);
  return useSyncExternalStore(
    subscribe,
    () => live?.peers(space) ?? NOBODY,
    () => NOBODY,
  );
}

/** For `<input>` and `<textarea>`, of a field that holds text. Until the record is read nothing can be typed. */
export interface TextProps {
  readonly value: string;
  readonly readOnly: boolean;
  readonly onChange: (event: { readonly target: { readonly value: string } }) => void;
  readonly onBlur: () => void;
}

/** For `<select>`, of a field that holds one of some texts. An `<input>` does not take it: half a word is none of them. */
export interface ChoiceProps extends Omit<TextProps, "readOnly" | "onChange"> {
  readonly onChange: (event: {
    readonly target: { readonly value: string; readonly selectedOptions: unknown };
  }) => void;
}

/**
 * A field as it stands, and what to do with it. `props` are those of a field that may hold any text, or one of some texts;
 * others use `value` and `set`.
 */
export interface BoundField<V> extends FieldState<V> {
  readonly set: (value: V) => void;
  /** Writes what was typed now. */
  readonly onBlur: () => void;
  /** What others wrote is seen: what was typed stays. */
  readonly dismiss: () => void;
  readonly props: string extends V ? TextProps : [Extract<V, string>] extends [never] ? never : ChoiceProps;
}

/**
 * A field of a record for an input: what is typed shows in the same tick, and is written after a pause, when the input is left,
 * and when it is gone. `<input {...useField(replica, "tasks", id, "title").props} />`
 */
export function useField<
  S extends object = AnyTables,
  T extends TableOf<S> = TableOf<S>,
  F extends FieldName<S, T> = FieldName<S, T>,
>(
  replica: Replica<S> | null,
  table: T,
  id: string,
  field: F,
  options: FieldOptions = {},
): BoundField<ValueOf<S, T, F>> {
  const { space = null, pause } = options;
  // Each field tells whom the last rendering with it named.
  const [held, own] = useMemo(() => {
    const own: { -readonly [name in keyof FieldOptions]: FieldOptions[name] } = { ...options };
    return [replica && fieldOf(replica, table, id, field, own), own] as const;
  }, [replica, table, id, field, space, pause]);
  useEffect(() => {
    if (options.onUnwritten) own.onUnwritten = options.onUnwritten;
    else delete own.onUnwritten;
  });
  const state = useSyncExternalStore(
    held?.subscribe ?? NEVER,
    () => held?.current ?? NOT_READ,
    () => NOT_READ,
  );
  return useMemo(() => {
    const set = (typed: ValueOf<S, T, F>): void =>
      held ? held.set(typed) : unwritten(`${table}.${field}`, typed, null, own);
    return boundOf(held, state, set);
  }, [held, own, state]);
}

function boundOf<V>(held: Field<V> | null, state: FieldState<V>, set: (typed: V) => void): BoundField<V> {
  const { value, loading } = state;
  const onBlur = (): void => void held?.flush();
  const props: TextProps = {
    value: value === undefined || value === null ? "" : String(value),
    readOnly: loading,
    onChange: ({ target }) => set(target.value as V),
    onBlur,
  };
  return { ...state, set, onBlur, dismiss: () => held?.dismiss(), props: props as BoundField<V>["props"] };
}
