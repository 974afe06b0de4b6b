/** The indexes of one table in one space that are kept in memory: made when they are first asked, and told what changes. */

import { type Key, keyText } from "../data/change.js";
import type { Event } from "../data/events.js";
import type { IndexRange } from "../data/indexed.js";
import type { Source } from "../store/observed.js";
import { keyOf, type RecordRow, type Transaction } from "../store/store.js";
import { TableEntries } from "./entries.js";
import { notedSince, WRITES } from "./noting.js";

/** So many records are read at once while they are made, and changed ones before a query: a page is drawn between two such parts. */
const PART = 250;
/** So often they are begun again when everything is told to be read again. */
const TRIES = 3;

type Noted = readonly [text: string, key: Key];

interface Renewed {
  readonly entries: TableEntries;
  readonly records: ReadonlyMap<string, RecordRow>;
}

export class KeptIndexes {
  readonly #source: Source;
  readonly #table: string;
  readonly #space: string;
  readonly #indexes: readonly (readonly string[])[];
  #entries: TableEntries | null = null;
  /** What may read otherwise than it is in the entries. A key that is noted again is another object. */
  #changed = new Map<string, Key>();
  /** The last write whose changes are in the entries, or noted. */
  #number: number | null = null;
  /** What was told since. */
  #heard = 0;
  #making: Promise<void> | null = null;
  /** The indexes that the store has by itself. */
  readonly #own = new Set<string>();

  constructor(source: Source, { table, space }: IndexRange, indexes: readonly (readonly string[])[]) {
    this.#source = source;
    this.#table = table;
    this.#space = space;
    this.#indexes = indexes;
    source.on((event) => this.#hear(event));
  }

  #hear(event: Event): void {
    if (event.kind !== "changes") return;
    if (event.everything) this.#begin();
    // In time, for the store knows the last of them alone.
    this.#heard += 1;
    if (this.#entries && this.#heard === WRITES / 2)
      this.#source.read((tx) => this.#look(tx)).catch(() => undefined);
    for (const { space, table, id } of event.records)
      if (table === this.#table && (space ?? "") === this.#space) this.note([this.#space, table, id]);
  }

  #begin(): void {
    this.#entries = this.#number = null;
    this.#changed = new Map();
  }

  /**
   * Notes what the store says of its last writes. Where they are too many, the indexes are begun again. Answers the number of the
   * last write in this transaction.
   */
  async #look(tx: Transaction): Promise<number> {
    for (;;) {
      const [changed, since] = [this.#changed, this.#number];
      const { number, keys } = await notedSince(tx, since);
      if (changed !== this.#changed) return number;
      if (since !== this.#number) continue; // another one has noted meanwhile
      if (!keys) this.#begin();
      for (const key of keys ?? []) if (key[0] === this.#space && key[1] === this.#table) this.note(key);
      this.#number = number;
      this.#heard = 0;
      return number;
    }
  }

  /** A record may read otherwise. */
  note(key: Key): void {
    if (this.#entries || this.#making) this.#changed.set(keyText(key), key);
  }

  /** Makes them, unless the store has that index by itself, and reads what has changed but for a few: once for all that ask. */
  async ready({ fields }: IndexRange, ask: (tx: Transaction) => Promise<unknown>): Promise<void> {
    const name = JSON.stringify(fields);
    if (this.#own.has(name) || (this.#entries && this.#changed.size <= PART)) return;
    if (!this.#entries && !this.#making && (await this.#source.read(ask))) this.#own.add(name);
    else await this.#made();
  }

  #made(): Promise<void> {
    this.#making ??= this.#make().finally(() => {
      this.#making = null;
    });
    return this.#making;
  }

  async #make(): Promise<void> {
    for (let n = 0; n < TRIES && !this.#entries; n += 1) {
      this.#begin();
      const [entries, changed] = [new TableEntries(this.#indexes), this.#changed];
      await this.#fill(entries);
      if (this.#changed === changed) this.#entries = entries;
    }
    while (this.#entries && this.#changed.size > PART) await this.#catchUp();
  }

  /** Reads what has changed, neighbours at once. */
  async #catchUp(): Promise<void> {
    await this.#source.read((tx) => this.#look(tx)); // or the same would be noted again, and read
    const changed = this.#changed;
    const texts = [...changed.keys()].sort();
    for (let start = 0; start < texts.length && this.#changed === changed; start += PART) {
      const part = texts.slice(start, start + PART).map((text) => [text, changed.get(text)] as const);
      const noted = part.filter((one): one is Noted => one[1] !== undefined);
      await this.#source.read((tx) => this.#settle(tx, noted));
    }
  }

  /** Reads the table, in parts where the store does. */
  async #fill(entries: TableEntries): Promise<void> {
    for (let from: Key | undefined = [this.#space, this.#table, ""]; from; ) {
      const rows = await this.#rows(from, PART);
      const last = rows.at(-1);
      const more = rows.length === PART && last && keyOf(last);
      // A store of another kind may begin at the beginning each time.
      if (more && more[2] === from[2]) return this.#add(entries, await this.#rows());
      await this.#add(entries, rows);
      from = more || undefined;
    }
  }

  #rows(from?: Key, limit?: number): Promise<RecordRow[]> {
    const place = [this.#space, this.#table];
    return this.#source.read(async (tx) => {
      await this.#look(tx);
      return tx.all("records", place, undefined, limit, from);
    });
  }

  async #add(entries: TableEntries, rows: readonly RecordRow[]): Promise<void> {
    for (let start = 0; start < rows.length; start += PART) {
      const part = rows.slice(start, start + PART);
      entries.set(part.map((row) => [keyText(keyOf(row)), row] as const));
      if (start + PART < rows.length) await new Promise((drawn) => setTimeout(drawn));
    }
  }

  /**
   * The entries as the store is in this transaction, and the records that were read for it; null where there are none. Others may
   * read at the same time, from an older or a newer state of it.
   */
  async entries(tx: Transaction): Promise<Renewed | null> {
    const number = this.#entries && (await this.#look(tx));
    const records = this.#entries && (await this.#settle(tx, [...this.#changed], number));
    return records && this.#entries && { entries: this.#entries, records };
  }

  /** Reads what has changed. `number`: of the last write in this transaction. */
  async #settle(
    tx: Transaction,
    noted: readonly Noted[],
    number: number | null = null,
  ): Promise<Map<string, RecordRow>> {
    const changed = this.#changed;
    const rows = noted[0] ? await tx.among(noted.map(([, key]) => key)) : [];
    const held = new Map(rows.map((row) => [keyText(keyOf(row)), row]));
    // What is not noted any more another one has set, perhaps to what is newer, and what was noted again is read again later. It is set
    // all the same where nobody has seen a newer state: this one is to be answered.
    const newest = number !== null && number === this.#number;
    const settled = noted.filter(([text, key]) => (newest ? changed.has(text) : changed.get(text) === key));
    if (changed === this.#changed)
      this.#entries?.set(settled.map(([text]) => [text, held.get(text)] as const));
    for (const [text, key] of settled) if (changed.get(text) === key) changed.delete(text);
    return held;
  }
}
