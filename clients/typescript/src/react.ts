/** Thin hooks for React: each one subscribes to a read of a replica, and renders again with each new answer. */

import { useCallback, useMemo, useSyncExternalStore } from "react";
import type { AnyTables, FieldsOf, Place, TableOf } from "./batch.js";
import type { Presence } from "./data/events.js";
import type { Row } from "./data/row.js";
import { dump, type Json } from "./data/values.js";
import type { Live } from "./live/live.js";
import type { QueryOptions, Where } from "./query.js";
import type { Replica } from "./replica.js";
import type { SyncStatus } from "./status.js";
import type { Observed } from "./store/observed.js";

const UNDEFINED = (): undefined => undefined;
const NOBODY: readonly Presence[] = [];

function useObserved<T>(observed: Observed<T> | null): T | undefined {
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
  options: QueryOptions = {},
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

/** The other devices that are in a space now. Tell them of this one with `live.presence`. */
export function usePresence(live: Live | null, space: string | null = null): readonly Presence[] {
  const subscribe = useCallback((changed: () => void) => live?.onPeers(changed) ?? UNDEFINED, [live]);
  return useSyncExternalStore(
    subscribe,
    () => live?.peers(space) ?? NOBODY,
    () => NOBODY,
  );
}
