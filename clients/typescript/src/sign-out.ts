/**
 * @syncd/client/sign-out: leaving a device. What the user had here stays for the next time, or is deleted.
 */

import type { AnyTables } from "./batch.js";
import { StoreFailed } from "./errors.js";
import type { Replica } from "./replica.js";
import type { Queued } from "./store/outbox.js";
import { inTime } from "./timing.js";

export interface DestroyOptions {
  /** What the replica was opened with as `store`, if that was given. */
  readonly store?: { destroy(name: string): Promise<void> } | undefined;
  /** Where the store is, if it is not the page's own IndexedDB. */
  readonly indexedDB?: IDBFactory | undefined;
  /** Milliseconds to wait for other tabs to let go of it. */
  readonly patience?: number | undefined;
}

/**
 * Deletes the store `name` of a replica that is closed. One that is not there is no error. Raises StoreFailed where another
 * tab keeps it for longer than `patience`; it is deleted as soon as that one lets go.
 */
export function destroy(
  name: string,
  { store, indexedDB = globalThis.indexedDB, patience = 10_000 }: DestroyOptions = {},
): Promise<void> {
  if (store) return store.destroy(name);
  if (!indexedDB) return Promise.resolve();
  const asked = indexedDB.deleteDatabase(`syncd:${name}`);
  const done = new Promise<void>((resolve, reject) => {
    asked.onsuccess = () => resolve();
    asked.onerror = () => reject(new StoreFailed(`it cannot be deleted: ${asked.error?.message}.`));
  });
  return inTime(() => done, patience, new StoreFailed("another tab keeps it open."));
}

/**
 * Ends what is live and closes the replica, as when its user signs out. Returns what was never sent: pending, refused and
 * set aside. With `wipe` its store is deleted, for a device that others use; what was not sent is gone then, but for what is
 * returned. Raises StoreFailed, also where the store is one that was given to `open` and is not given here.
 */
export async function signOut<S extends object = AnyTables>(
  replica: Replica<S>,
  { wipe = false, ...options }: DestroyOptions & { readonly wipe?: boolean } = {},
): Promise<Queued[]> {
  if (wipe && replica.durable && !options.store && !(options.indexedDB ?? globalThis.indexedDB))
    throw new StoreFailed("pass the store that the replica was opened with.");
  const unsent = [await replica.pending(), await replica.rejected(), await replica.keptAside()].flat();
  await replica.close();
  if (wipe) await destroy(replica.name, options);
  return unsent;
}
