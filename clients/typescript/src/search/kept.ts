/** Where a table is searched: in the store, or in an index in memory that follows what happens to the replica. */

import { type Key, keyText } from "../data/change.js";
import type { Event } from "../data/events.js";
import type { AskedWord } from "../data/searched.js";
import type { Source } from "../store/observed.js";
import { keyOf, type RecordRow, type Transaction } from "../store/store.js";
import { Mutex } from "../timing.js";
import { SmallIndex } from "./small.js";

export class KeptIndex {
  declare readonly table: string;
  declare readonly fields: readonly string[];
  readonly #source: Source;
  readonly #index: SmallIndex;
  readonly #turns = new Mutex();
  /** What may read otherwise than it is in the index; null: the whole table has to be read. */
  #changed: Map<string, Key> | null = null;

  constructor(source: Source, table: string, fields: readonly string[]) {
    this.table = table;
    this.fields = fields;
    this.#source = source;
    this.#index = new SmallIndex(fields);
    source.on((event) => this.#hear(event));
  }

  #hear(event: Event): void {
    if (event.kind !== "changes") return;
    if (event.everything) this.#changed = null;
    for (const { space, table, id } of event.records) {
      const key: Key = [space ?? "", table, id];
      if (table === this.table) this.#changed?.set(keyText(key), key);
    }
  }

  /** The records that have every word, best first, as they stand in the store. */
  find(space: string | null, asked: readonly AskedWord[], limit: number): Promise<RecordRow[]> {
    if (!asked[0]) return Promise.resolve([]);
    // One after the other: each leaves the index as the store was when it read, or later.
    return this.#turns.run(async () => {
      const changed = this.#changed;
      this.#changed = new Map(); // what happens from here on may be too late for this transaction
      try {
        return await this.#source.read(async (tx) => {
          const found = await tx.found?.(this.table, this.fields, space, asked, limit);
          if (found) {
            this.#changed = null; // nothing is kept here
            return found;
          }
          await this.#renew(tx, changed);
          return this.#checked(tx, space, asked, limit);
        });
      } catch (error) {
        this.#changed = null;
        throw error;
      }
    });
  }

  async #renew(tx: Transaction, changed: ReadonlyMap<string, Key> | null): Promise<void> {
    if (!changed) this.#index.clear();
    const keys = [...(changed?.values() ?? [])];
    const rows = await (changed ? tx.among(keys) : tx.all("records", [this.table], "table"));
    const held = new Map(changed ? rows.map((row) => [keyText(keyOf(row)), row]) : []);
    for (const key of keys) this.#index.set(key, held.get(keyText(key)));
    if (!changed) for (const row of rows) this.#index.set(keyOf(row), row);
  }

  /** What is found, once more where a record has other words meanwhile: another tab may have written what is not told yet. */
  async #checked(
    tx: Transaction,
    space: string | null,
    asked: readonly AskedWord[],
    limit: number,
  ): Promise<RecordRow[]> {
    for (;;) {
      const keys = this.#index.find(space, asked, limit);
      const rows = await Promise.all(keys.map((key) => tx.get("records", key)));
      const stale = keys.filter((key, n) => this.#index.set(key, rows[n]));
      if (!stale[0]) return rows as RecordRow[];
    }
  }
}
