/** Opens a replica's store: whose it is, what it falls back to, and the migration of the application's own schema. */

import { newId } from "../data/change.js";
import { StoreFailed, SyncdError, WrongReplica } from "../errors.js";
import { CALLBACK_TIMEOUT, inTime } from "../timing.js";
import { type Durability, IndexedDbStore } from "./indexeddb.js";
import {
  answerOf,
  LAYOUT,
  type Meta,
  type RowStore,
  type RowWork,
  Store,
  type Work,
  within,
} from "./store.js";

export type Prepare = RowWork<void>;

/**
 * Makes a store of another kind. It runs `prepare` in a transaction each time that it opens what it keeps. `options` are those of
 * the replica.
 */
export type MakeStore = (name: string, prepare: Prepare, options?: StoreOptions) => Promise<RowStore>;

/** What is declared, and what makes a store one that indexes in memory can follow. */
export interface IndexOptions {
  readonly declared: object;
  noting(rows: RowStore): RowStore;
}

export interface StoreOptions {
  readonly search?: object | undefined;
  readonly indexes?: IndexOptions | undefined;
  readonly store?: MakeStore | undefined;
  readonly indexedDB?: IDBFactory | null | undefined;
  readonly durability?: Durability | undefined;
  readonly requireDurable?: boolean | undefined;
  readonly callbackTimeout?: number | undefined;
}

/**
 * IndexedDB where there is one, else memory (in some private modes), unless `requireDurable`. `claimed` runs each time
 * that it is opened, also again after the browser evicted it; `landed` is as in Store. Raises StoreFailed, and what `claimed` raises.
 */
export async function openStore(
  name: string,
  options: StoreOptions,
  claimed: Work<void>,
  landed?: () => void,
): Promise<Store> {
  const prepare: Prepare = (rows) => within(rows, claimed);
  const patience = options.callbackTimeout ?? CALLBACK_TIMEOUT;
  const opening = openRows(name, options, prepare);
  const rows = await answerOf(() => opening, patience).catch((error) => {
    opening.then((late) => late.close()).catch(() => {});
    throw error;
  });
  return new Store(options.indexes?.noting(rows) ?? rows, patience, landed);
}

async function openRows(name: string, options: StoreOptions, prepare: Prepare): Promise<RowStore> {
  if (options.store !== undefined) return options.store(name, prepare, options);
  const { indexedDB: factory = globalThis.indexedDB, durability = "full" } = options;
  try {
    if (!factory) throw new StoreFailed("no IndexedDB");
    return await IndexedDbStore.open(`syncd:${name}`, {
      factory,
      durability,
      prepare,
    });
  } catch (error) {
    if (!(error instanceof StoreFailed) || options.requireDurable) throw error;
    const { MemoryStore } = await import("./memory.js"); // so rarely needed that no page should load it
    const store = new MemoryStore(LAYOUT);
    await store.write(prepare);
    return store;
  }
}

/** Keeps a value that never changes in a store. Raises WrongReplica when it was another. */
export function claimMeta(meta: Meta, name: "app" | "client" | "user", value: string): void {
  const held = meta[name];
  if (held && held !== value) {
    throw new WrongReplica(`the store belongs to the ${name} ${held}, not ${value}.`);
  }
  meta[name] = value;
}

/** Makes a store this app's and this device's. Returns the device's client id, made up where there was none. */
export function claimStore(meta: Meta, app: string, clientId: string | undefined, wall: number): string {
  claimMeta(meta, "app", app);
  claimMeta(meta, "client", clientId ?? (meta.client || newId(wall)));
  return meta.client;
}

/**
 * Lets the application bring what it wrote with an older schema up to this one: `queue` writes what `onMigrate` has
 * collected, in one transaction with the new version. Returns what that answers; undefined where nothing had to be done. Raises
 * WrongReplica when the store has a newer one.
 */
export async function migrate<T>(
  store: Store,
  schemaVersion: number,
  callbackTimeout = CALLBACK_TIMEOUT,
  onMigrate: (from: number) => void | Promise<void>,
  queue: Work<T>,
): Promise<T | undefined> {
  const from = await store.read(async (tx) => tx.meta.schema);
  if (from !== null && from > schemaVersion) {
    throw new WrongReplica("a newer version wrote the store: reload the page.");
  }
  if (from === schemaVersion) return undefined;
  const patience = 10 * callbackTimeout;
  const late = new SyncdError("callback_timeout", `no answer in ${patience} ms.`);
  if (from !== null) await inTime(() => onMigrate(from), patience, late);
  return store.write(async (tx) => {
    if (tx.meta.schema !== from) return undefined; // another tab was quicker
    tx.meta.schema = schemaVersion;
    return queue(tx);
  });
}
