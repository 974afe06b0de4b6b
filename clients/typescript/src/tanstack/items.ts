/** Records of a table as items of a collection, and how they differ from what the collection was told last. */

import { type Key, keyText, spaceKey } from "../data/change.js";
import type { Event } from "../data/events.js";
import { type Held, rowOf } from "../data/row.js";
import { dump, type Json, same } from "../data/values.js";
import type { CompiledQuery } from "../query.js";
import { keyOf, type RecordRow, type Transaction } from "../store/store.js";

/** A record's fields with its id; with its space, null for the personal one, where every space is asked. */
export interface Item {
  readonly id: string;
  readonly [field: string]: Json | undefined;
}

/** What TanStack DB gives a collection's `sync`, as far as it is used. */
export interface Sink {
  begin(): void;
  write(message: { type: "insert" | "update"; value: Item } | { type: "delete"; key: string }): void;
  commit(): unknown;
  markReady(): void;
  markError(error: unknown): void;
}

/** The records that may have changed, by `keyText`; null: any of them. */
export type Changed = ReadonlyMap<string, Key> | null;

/** The key of an item in a collection of every space. `space`: null for the personal one. */
export function keyIn(space: string | null, id: string): string {
  // What is no text has a key as well: it is refused, and rolled back, as it is written.
  return dump([typeof space === "string" ? spaceKey(space) || null : (space ?? null), id]);
}

/** The key of an item in its collection: its id, and the space as well where every space is asked. */
export function keyOfItem(item: object, everySpace: boolean): string {
  const { id, space = null } = item as { id: string; space?: string | null };
  return everySpace ? keyIn(space, id) : id;
}

function itemOf(record: Held, everySpace: boolean): Item {
  const { space, id, fields } = rowOf(record);
  const named = everySpace ? { id, space } : { id };
  return { ...named, ...fields, ...named };
}

type Asked = Pick<CompiledQuery<object>, "table" | "space" | "matches">;

/** What one collection is told of the store. */
export class Feed {
  readonly #asked: Asked;
  readonly #sink: Sink;
  #changed: Map<string, Key> | null = null;
  #told = new Map<string, Item>();
  #ready = false;

  constructor(asked: Asked, sink: Sink) {
    this.#asked = asked;
    this.#sink = sink;
  }

  /** Takes note of what an event may change; false where that is nothing here. */
  concerns(event: Event): boolean {
    if (event.kind !== "changes") return false;
    if (event.everything) this.#changed = null;
    for (const { space, table, id } of event.records) {
      const key: Key = [space ?? "", table, id];
      if (table === this.#asked.table && (this.#asked.space ?? key[0]) === key[0])
        this.#changed?.set(keyText(key), key);
    }
    return this.#changed?.size !== 0;
  }

  /** Returns the records that have to be read, and begins to note new ones. */
  take(): Changed {
    const changed = this.#changed;
    this.#changed = new Map();
    return changed;
  }

  /** Whether the collection was told of a record, by its `keyText`, and not that it is gone. */
  has(name: string): boolean {
    return this.#told.has(name);
  }

  /** Has everything read the next time. */
  missed(): void {
    this.#changed = null;
  }

  async read(tx: Transaction, changed: Changed): Promise<RecordRow[]> {
    const { table, space } = this.#asked;
    if (changed) {
      const near = await tx.among([...changed.values()]);
      return near.filter((row) => changed.has(keyText(keyOf(row))));
    }
    return space === null ? tx.all("records", [table], "table") : tx.all("records", [space, table]);
  }

  /**
   * Tells what the records that were read make different, as one transaction, and that the collection is ready. Raises what a
   * listener raises: TanStack DB has it by then, but what it had no turn to take has to be read again.
   */
  tell(changed: Changed, rows: readonly RecordRow[]): void {
    const { matches, space } = this.#asked;
    const now = new Map<string, Item>();
    for (const row of rows)
      if (matches(row.view, row.deleted)) now.set(keyText(keyOf(row)), itemOf(row, space === null));
    const gone = [...(changed ?? this.#told).keys()].filter((name) => !now.has(name) && this.#told.has(name));
    const other = [...now].filter(
      ([name, item]) => !same(this.#told.get(name) as Json | undefined, item as Json),
    );
    try {
      if (gone.length > 0 || other.length > 0) this.#write(gone, other);
    } finally {
      this.#readied();
    }
  }

  #readied(): void {
    if (this.#ready) return;
    this.#ready = true;
    this.#sink.markReady();
  }

  #write(gone: readonly string[], other: readonly (readonly [name: string, item: Item])[]): void {
    this.#sink.begin();
    for (const name of gone) {
      this.#sink.write({
        type: "delete",
        key: keyOfItem(this.#told.get(name) as Item, this.#asked.space === null),
      });
      this.#told.delete(name);
    }
    for (const [name, value] of other) {
      this.#sink.write({ type: this.#told.has(name) ? "update" : "insert", value });
      this.#told.set(name, value);
    }
    this.#sink.commit();
  }

  /** It could not be read. The collection keeps what it has; one that has nothing yet has failed. */
  fail(error: unknown): void {
    this.missed();
    if (this.#ready) console.error("syncd: a read failed", error);
    else this.#sink.markError(error);
  }
}
