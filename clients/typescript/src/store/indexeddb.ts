/** The store in IndexedDB: durable, and shared by the tabs of an origin. */

import type { Key } from "../data/change.js";
import { dump, type Json, parse } from "../data/values.js";
import { StoreFailed, WrongReplica } from "../errors.js";
import {
  type Index,
  LAYOUT,
  type Name,
  type Part,
  type RecordRow,
  type RowStore,
  type Rows,
  type RowTransaction,
  type RowWork,
  raise,
} from "./store.js";

const FORMAT = 1;
/** Milliseconds between two openings of a store: twice as many each time. */
const FIRST_PAUSE = 20;
const LAST_PAUSE = 1000;
const NAMES = Object.keys(LAYOUT.keys) as Name[];

/** "full" asks for a flush to the disk at each write; "normal" survives the death of the browser only. */
export type Durability = "full" | "normal";

export interface IndexedDbOptions {
  readonly factory: IDBFactory;
  readonly durability: Durability;
  /** Runs after each opening, in a transaction of its own: what the browser evicted is a new store then. */
  readonly prepare: (rows: RowTransaction) => Promise<void>;
}

export class IndexedDbStore implements RowStore {
  readonly durable = true;
  readonly #name: string;
  readonly #options: IndexedDbOptions;
  #opening: Promise<IDBDatabase> | null = null;
  #closed = false;

  private constructor(name: string, options: IndexedDbOptions) {
    this.#name = name;
    this.#options = options;
  }

  /** Raises WrongReplica, StoreFailed, and what `prepare` raises. */
  static async open(name: string, options: IndexedDbOptions): Promise<IndexedDbStore> {
    const store = new IndexedDbStore(name, options);
    await store.#database();
    return store;
  }

  async read<T>(work: RowWork<T>): Promise<T> {
    return this.#perform(await this.#begin("readonly"), work);
  }

  async write<T>(work: RowWork<T>): Promise<T> {
    return this.#perform(await this.#begin("readwrite"), work);
  }

  close(): void {
    this.#closed = true;
    this.#opening?.then((database) => database.close()).catch(() => undefined);
    this.#opening = null;
  }

  /** A connection that is on its way out (evicted, or in the way of an upgrade) is replaced once. */
  async #begin(mode: IDBTransactionMode): Promise<IDBTransaction> {
    const database = await this.#database();
    const opening = this.#opening;
    try {
      return this.#start(database, mode);
    } catch {
      if (this.#opening === opening) this.#opening = null; // or somebody has replaced it already
      return this.#start(await this.#database(), mode);
    }
  }

  #start(database: IDBDatabase, mode: IDBTransactionMode): IDBTransaction {
    const { durability } = this.#options;
    return database.transaction(NAMES, mode, { durability: durability === "full" ? "strict" : "relaxed" });
  }

  async #perform<T>(transaction: IDBTransaction, work: RowWork<T>): Promise<T> {
    const finished = new Promise<unknown>((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error ?? "aborted");
    });
    finished.catch(() => undefined); // told below, or the work's own failure is
    try {
      const answer = await work(new IndexedDbTransaction(transaction));
      if (transaction.mode !== "readonly") await finished; // what was read, was read
      return answer;
    } catch (error) {
      const cause = transaction.error;
      try {
        transaction.abort();
      } catch {
        // it is over already
      }
      await finished.catch(() => undefined);
      throw cause ?? error;
    }
  }

  #database(): Promise<IDBDatabase> {
    if (this.#closed) throw new StoreFailed("it is closed");
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = null;
      raise(error);
    });
    return this.#opening;
  }

  async #open(): Promise<IDBDatabase> {
    const database = await this.#connect();
    const forget = (): void => {
      this.#opening = null;
    };
    database.onclose = () => {
      forget(); // the browser took it away: what was evicted is noticed at once, not at the next write
      if (!this.#closed) this.#database().catch(() => undefined);
    };
    database.onversionchange = () => {
      forget();
      database.close();
    };
    try {
      await this.#perform(this.#start(database, "readwrite"), this.#options.prepare);
      return database;
    } catch (error) {
      database.close();
      throw error;
    }
  }

  /** While the browser is still taking the store away it aborts whoever opens it: they come again a little later. */
  async #connect(pause = FIRST_PAUSE): Promise<IDBDatabase> {
    try {
      return await connect(this.#options.factory, this.#name);
    } catch (error) {
      if ((error as Error).name !== "AbortError" || pause > LAST_PAUSE || this.#closed) throw error;
      await new Promise((over) => setTimeout(over, pause));
      return this.#connect(pause * 2);
    }
  }
}

async function connect(factory: IDBFactory, name: string): Promise<IDBDatabase> {
  const request = factory.open(name, FORMAT);
  request.onupgradeneeded = () => {
    for (const name of NAMES) {
      const store = request.result.createObjectStore(name, { keyPath: LAYOUT.keys[name] as string[] });
      for (const [index, members] of Object.entries(LAYOUT.indexes[name] ?? {}))
        store.createIndex(index, members);
    }
  };
  return resultOf(request).catch((error) => {
    throw error?.name === "VersionError"
      ? new WrongReplica("a newer version wrote the store: reload the page.")
      : error;
  });
}

class IndexedDbTransaction implements RowTransaction {
  readonly #transaction: IDBTransaction;

  constructor(transaction: IDBTransaction) {
    this.#transaction = transaction;
  }

  async get<N extends Name>(name: N, key: readonly Part[]): Promise<Rows[N] | undefined> {
    return decode(await resultOf(this.#transaction.objectStore(name).get(key as Part[])));
  }

  async among(keys: readonly Key[]): Promise<RecordRow[]> {
    if (!keys[0]) return [];
    const store = this.#transaction.objectStore("records");
    // Sorted as IndexedDB sorts texts. Every key lies between the least and the greatest parts.
    const parts = [0, 1, 2].map((place) => keys.map((key) => key[place]).sort());
    const span = IDBKeyRange.bound(
      parts.map((all) => all[0]),
      parts.map((all) => all.at(-1)),
    );
    const near: object[] = await resultOf(store.getAll(span, keys.length * 2));
    if (near.length < keys.length * 2) return near.map(decode<"records">);
    return (await Promise.all(keys.map((key) => this.get("records", key)))).filter(
      (row) => row !== undefined,
    );
  }

  async all<N extends Name>(
    name: N,
    prefix: readonly Part[] = [],
    index?: Index,
    limit?: number,
    from = prefix,
  ): Promise<Rows[N][]> {
    const range = startingWith(prefix, from);
    return (await resultOf(this.#source(name, index).getAll(range, limit))).map(decode<N>);
  }

  count(name: Name, prefix: readonly Part[], index: Index): Promise<number> {
    return resultOf(this.#source(name, index).count(startingWith(prefix)));
  }

  #source(name: Name, index: Index | undefined): IDBObjectStore | IDBIndex {
    const store = this.#transaction.objectStore(name);
    return index ? store.index(index) : store;
  }

  put<N extends Name>(name: N, row: Rows[N]): void {
    this.#transaction.objectStore(name).put(encode(row));
  }

  delete(name: Name, key: readonly Part[]): void {
    this.#transaction.objectStore(name).delete(key as Part[]);
  }
}

/** What is read of a record lies there as text: a browser copies that several times faster than a map of objects. */
function encode(row: Rows[Name]): object {
  return "view" in row ? { ...row, view: dump([...row.view] as unknown as Json) } : row;
}

function decode<N extends Name>(kept: { view?: string }): Rows[N] {
  return (kept?.view ? { ...kept, view: new Map(parse(kept.view) as []) } : kept) as Rows[N];
}

/** A list is greater than every text and number, so it ends what begins with the prefix. */
function startingWith(prefix: readonly Part[], from = prefix): IDBKeyRange {
  return IDBKeyRange.bound(from, [...prefix, []]);
}

function resultOf<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
