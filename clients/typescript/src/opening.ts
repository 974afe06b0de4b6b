/** Opens a replica's store: whose it is, what it falls back to, and the migration of the application's own schema. */

import { newId } from "./change.js";
import { StoreFailed, WrongReplica } from "./errors.js";
import type { Durability } from "./indexeddb.js";
import { IndexedDbStore } from "./indexeddb.js";
import { MemoryStore } from "./memory.js";
import { getMeta, type Meta, type Store, setMeta, type Transaction } from "./store.js";

export type Prepare = (tx: Transaction) => Promise<void>;

/** Makes a store of another kind. It runs `prepare` in a transaction each time that it opens what it keeps. */
export type MakeStore = (name: string, prepare: Prepare) => Promise<Store>;

export interface StoreOptions {
  readonly store?: MakeStore | undefined;
  readonly indexedDB?: IDBFactory | null | undefined;
  readonly durability?: Durability | undefined;
  readonly requireDurable?: boolean | undefined;
}

/** IndexedDB where there is one, else memory (in some private modes), unless `requireDurable`. Raises StoreFailed. */
export async function openStore(name: string, options: StoreOptions, prepare: Prepare): Promise<Store> {
  if (options.store !== undefined) return options.store(name, prepare);
  const factory = options.indexedDB === undefined ? globalThis.indexedDB : options.indexedDB;
  try {
    if (!factory) throw new StoreFailed("there is no IndexedDB");
    return await IndexedDbStore.open(`syncd:${name}`, {
      factory,
      durability: options.durability ?? "full",
      prepare,
    });
  } catch (error) {
    if (!(error instanceof StoreFailed) || options.requireDurable) throw error;
    const store = new MemoryStore();
    await store.write(prepare);
    return store;
  }
}

/** Keeps a value that never changes in a store. Raises WrongReplica when it was another. */
export async function claimMeta(
  tx: Transaction,
  name: "app" | "client" | "user",
  value: string,
): Promise<void> {
  const held: Meta[typeof name] | undefined = await getMeta(tx, name);
  if (held === undefined) setMeta(tx, name, value);
  else if (held !== value) {
    throw new WrongReplica(
      `the store belongs to the ${name} ${JSON.stringify(held)}, not ${JSON.stringify(value)}.`,
    );
  }
}

/** Makes a store this app's and this device's. Returns the device's client id, made up where there was none. */
export async function claim(
  tx: Transaction,
  app: string,
  clientId: string | undefined,
  wall: number,
): Promise<string> {
  await claimMeta(tx, "app", app);
  const client = clientId ?? (await getMeta(tx, "client")) ?? newId(wall);
  await claimMeta(tx, "client", client);
  return client;
}
