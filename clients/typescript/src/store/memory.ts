/** A store that lasts as long as the page: where a browser offers no other, and for tests. */

import type { Key } from "../data/change.js";
import type {
  Index,
  Layout,
  Name,
  Part,
  RecordRow,
  RowStore,
  Rows,
  RowTransaction,
  RowWork,
} from "./store.js";

type AnyRow = Rows[Name];
type Undo = () => void;

export class MemoryStore implements RowStore {
  readonly durable = false;
  readonly #tables = new Map<Name, Map<string, AnyRow>>();
  readonly #layout: Layout;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** The layout is given, so that this file stands alone and is loaded only where it is needed. */
  constructor(layout: Layout) {
    this.#layout = layout;
  }

  read<T>(work: RowWork<T>): Promise<T> {
    return this.write(work);
  }

  /** One after the other, reads too: nobody sees half a write. */
  write<T>(work: RowWork<T>): Promise<T> {
    const done = this.#last.then(() => this.#run(work));
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #run<T>(work: RowWork<T>): Promise<T> {
    if (this.#closed) throw new Error("the store is closed");
    const undo: Undo[] = [];
    try {
      return await work(new MemoryTransaction(this.#layout, (name) => this.#table(name), undo));
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw error;
    }
  }

  #table(name: Name): Map<string, AnyRow> {
    const held = this.#tables.get(name) ?? new Map<string, AnyRow>();
    this.#tables.set(name, held);
    return held;
  }

  close(): void {
    this.#closed = true;
  }
}

class MemoryTransaction implements RowTransaction {
  readonly #layout: Layout;
  readonly #table: (name: Name) => Map<string, AnyRow>;
  readonly #undo: Undo[];

  constructor(layout: Layout, table: (name: Name) => Map<string, AnyRow>, undo: Undo[]) {
    this.#layout = layout;
    this.#table = table;
    this.#undo = undo;
  }

  async get<N extends Name>(name: N, key: readonly Part[]): Promise<Rows[N] | undefined> {
    return this.#table(name).get(JSON.stringify(key)) as Rows[N] | undefined;
  }

  async among(keys: readonly Key[]): Promise<RecordRow[]> {
    const rows = await Promise.all(keys.map((key) => this.get("records", key)));
    return rows.filter((row) => row !== undefined);
  }

  async all<N extends Name>(
    name: N,
    prefix: readonly Part[] = [],
    index?: Index,
    limit = Infinity,
    from?: readonly Part[],
  ): Promise<Rows[N][]> {
    const members = (index && this.#layout.indexes[name]?.[index]) ?? this.#layout.keys[name];
    const found: [readonly Part[], AnyRow][] = [];
    for (const row of this.#table(name).values()) {
      const key = partsOf(row, members);
      if (prefix.every((part, place) => key[place] === part)) found.push([key, row]);
    }
    found.sort(([one], [other]) => compareKeys(one, other));
    // In parts they would be sorted again for each.
    return found.slice(0, from ? Infinity : limit).map(([, row]) => row as Rows[N]);
  }

  async count(name: Name, prefix: readonly Part[], index: Index): Promise<number> {
    return (await this.all(name, prefix, index)).length;
  }

  put<N extends Name>(name: N, row: Rows[N]): void {
    const table = this.#table(name);
    const key = JSON.stringify(partsOf(row, this.#layout.keys[name]));
    this.#remember(table, key);
    table.set(key, row);
  }

  delete(name: Name, key: readonly Part[]): void {
    const table = this.#table(name);
    this.#remember(table, JSON.stringify(key));
    table.delete(JSON.stringify(key));
  }

  #remember(table: Map<string, AnyRow>, key: string): void {
    const before = table.get(key);
    this.#undo.push(() => (before === undefined ? table.delete(key) : table.set(key, before)));
  }
}

function partsOf(row: AnyRow, members: readonly string[]): Part[] {
  return members.map((member) => (row as unknown as Record<string, Part>)[member] as Part);
}

function compareKeys(one: readonly Part[], other: readonly Part[]): number {
  for (const [place, part] of one.entries()) {
    const against = other[place] as Part;
    if (part !== against) return part < against ? -1 : 1;
  }
  return 0;
}
