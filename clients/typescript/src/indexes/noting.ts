/**
 * A store that says in itself which records its last writes have changed, in the transaction of each: so what is kept in memory
 * learns also of a write whose tab ended before it could tell.
 */

import { type Key, keyText } from "../data/change.js";
import {
  keyOf,
  LAST_WRITE,
  type RecordRow,
  type RowStore,
  type Rows,
  type RowTransaction,
} from "../store/store.js";

/** So many of the last writes are known, and so many of the records of each. */
export const WRITES = 64;
const RECORDS = 1000;

/** A write by its number, and the keys of the records that it has changed; null where they are too many, or not known. */
export interface WriteNote {
  readonly number: number;
  readonly keys: readonly Key[] | null;
}

/** The same store, where others may have it too. */
export function noting(rows: RowStore): RowStore {
  if (!rows.durable) return rows;
  return {
    durable: true,
    read: (work) => rows.read(work),
    write: (work) => rows.write((tx) => (tx.ranged ? work(tx) : note(tx, work))),
    close: () => rows.close(),
  };
}

async function note<T>(tx: RowTransaction, work: (tx: RowTransaction) => Promise<T>): Promise<T> {
  const changed = new Map<string, Key>();
  const { put, delete: remove } = tx;
  tx.put = (name, row) => {
    if (name === "records") add(keyOf(row as RecordRow));
    put.call(tx, name, row as never);
  };
  tx.delete = (name, key) => {
    if (name === "records") add(key as unknown as Key);
    remove.call(tx, name, key);
  };
  const add = (key: Key): unknown => changed.set(keyText(key), key);
  const before = read(tx, LAST_WRITE);
  before.catch(() => undefined); // the work fails then
  const answer = await work(tx);
  if (!changed.size) return answer;
  // A store that was evicted begins with another number than it had.
  const number = ((await before)?.number ?? Date.now()) + 1;
  const keys = changed.size > RECORDS ? null : [...changed.values()];
  keep(tx, LAST_WRITE, { number, keys: null });
  keep(tx, nameOf(number), { number, keys });
  return answer;
}

/** What has changed since the write `since`; null: since nothing that is known. */
export async function notedSince(tx: RowTransaction, since: number | null): Promise<WriteNote> {
  const [last, next] = await Promise.all([
    read(tx, LAST_WRITE),
    since === null ? undefined : read(tx, nameOf(since + 1)),
  ]);
  const number = last?.number ?? 0;
  if (since === null || since === number) return { number, keys: [] };
  const count = number - since;
  if (count < 0 || count > WRITES) return { number, keys: null };
  const rest = Array.from({ length: count - 1 }, (_, n) => read(tx, nameOf(since + 2 + n)));
  const keys: Key[] = [];
  for (const [n, note] of [next, ...(await Promise.all(rest))].entries()) {
    if (note?.number !== since + 1 + n || !note.keys) return { number, keys: null };
    keys.push(...note.keys);
  }
  return { number, keys };
}

function nameOf(number: number): string {
  return `${LAST_WRITE} ${number % WRITES}`;
}

// They lie beside the few values, where a version of before does not see them.

async function read(tx: RowTransaction, name: string): Promise<WriteNote | undefined> {
  return (await tx.get("meta", [name]))?.meta as unknown as WriteNote | undefined;
}

function keep(tx: RowTransaction, name: string, meta: WriteNote): void {
  tx.put("meta", { name, meta } as unknown as Rows["meta"]);
}
