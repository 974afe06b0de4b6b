/** The indexes of one table that are kept in memory: made when they are first asked, and told what changes. */

import { type Key, keyText } from "../data/change.js";
import type { Event } from "../data/events.js";
import type { Source } from "../store/observed.js";
import { keyOf, type RecordRow, type Transaction } from "../store/store.js";
import { TableEntries } from "./entries.js";

interface Renewed {
  readonly entries: TableEntries;
  readonly records: ReadonlyMap<string, RecordRow>;
}

export class KeptIndexes {
  readonly #table: string;
  readonly #indexes: readonly (readonly string[])[];
  #entries: TableEntries | null = null;
  /** What may read otherwise than it is in the entries, once they are asked for. A key that is noted again is another object. */
  #changed: Map<string, Key> | null = null;

  constructor(source: Pick<Source, "on">, table: string, indexes: readonly (readonly string[])[]) {
    this.#table = table;
    this.#indexes = indexes;
    source.on((event) => this.#hear(event));
  }

  #hear(event: Event): void {
    if (event.kind !== "changes") return;
    if (event.everything) this.#entries = this.#changed = null;
    for (const { space, table, id } of event.records)
      if (table === this.#table) this.note([space ?? "", table, id]);
  }

  /** A record may read otherwise. */
  note(key: Key): void {
    this.#changed?.set(keyText(key), key);
  }

  /**
   * The entries as the store is in this transaction, and the records that were read for it. Others may read at the same time, from an
   * older or a newer state of it.
   */
  async entries(tx: Transaction): Promise<Renewed> {
    const [entries, noted] = [this.#entries, this.#changed];
    if (!entries || !noted) return { entries: await this.#make(tx), records: new Map() };
    const changed = [...noted];
    if (!changed[0]) return { entries, records: new Map() };
    const rows = await tx.among(changed.map(([, key]) => key));
    const held = new Map(rows.map((row) => [keyText(keyOf(row)), row]));
    // What was noted again meanwhile is read later, and what is not noted any more another one has set: perhaps to what is newer.
    const settled = changed.filter(([text, key]) => noted.get(text) === key);
    entries.set(new Map(settled.map(([text]) => [text, held.get(text)])));
    for (const [text] of settled) noted.delete(text);
    return { entries, records: held };
  }

  async #make(tx: Transaction): Promise<TableEntries> {
    const changed = new Map<string, Key>();
    this.#changed = changed; // what happens from here on may be too late for this transaction
    const entries = new TableEntries(this.#indexes, await tx.all("records", [this.#table], "table"));
    // Where another one has begun since, what was noted meanwhile is noted for that one.
    if (this.#changed === changed) this.#entries = entries;
    return entries;
  }
}
