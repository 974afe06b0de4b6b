/** One transaction of the store. What is put waits until something is read, or the end, and goes as a list for each table. */

import type { Key } from "../data/change.js";
import type { IndexRange } from "../data/indexed.js";
import type { AskedWord } from "../data/searched.js";
import { StoreFailed } from "../errors.js";
import {
  type Index,
  LAYOUT,
  type Name,
  type Part,
  type RecordRow,
  type Rows,
  type RowTransaction,
} from "../store/store.js";
import { Mutex } from "../timing.js";
import type { SqliteDriver, SqliteRow, SqliteValue } from "./driver.js";
import { rangedKeys } from "./indexes.js";
import { searchedKeys } from "./search.js";
import { COLUMNS, decode, encode } from "./tables.js";

/** The columns of a row to write, or null for one to delete, by their key as text. */
type Writes = Map<string, SqliteValue[] | null>;

export class SqliteTransaction implements RowTransaction {
  readonly #driver: SqliteDriver;
  readonly #turns = new Mutex();
  #writes = new Map<Name, Writes>();
  #failure: unknown;

  constructor(driver: SqliteDriver) {
    this.#driver = driver;
  }

  async get<N extends Name>(name: N, key: readonly Part[]): Promise<Rows[N] | undefined> {
    const [kept] = await this.#find(`SELECT * FROM ${name} WHERE ${equal(LAYOUT.keys[name])}`, key);
    return kept && decode(name, kept);
  }

  async among(keys: readonly Key[]): Promise<RecordRow[]> {
    if (keys.length === 0) return [];
    const found = await this.#find(`SELECT held.* FROM ${joined("records")}`, [JSON.stringify(keys)]);
    return found.map((kept) => decode("records", kept));
  }

  async all<N extends Name>(
    name: N,
    prefix: readonly Part[] = [],
    index?: Index,
    limit = -1,
    from?: readonly Part[],
  ): Promise<Rows[N][]> {
    const members = membersOf(name, index);
    const order = [...new Set([...members, ...LAYOUT.keys[name]])].map(quoted).join(", ");
    const asked = equal(members.slice(0, prefix.length));
    const found = await this.#find(`SELECT * FROM ${name} WHERE ${asked} ORDER BY ${order} LIMIT ?`, [
      ...prefix,
      from ? -1 : limit,
    ]);
    return found.map((kept) => decode(name, kept));
  }

  async count(name: Name, prefix: readonly Part[], index: Index): Promise<number> {
    const asked = equal(membersOf(name, index).slice(0, prefix.length));
    const [found] = await this.#find(`SELECT count(*) AS number FROM ${name} WHERE ${asked}`, prefix);
    return found?.number as number;
  }

  async found(
    table: string,
    fields: readonly string[],
    space: string | null,
    asked: readonly AskedWord[],
    limit: number,
  ): Promise<RecordRow[] | undefined> {
    const keys = await this.#next(() => searchedKeys(this.#driver, table, fields, space, asked, limit));
    if (!keys) return undefined;
    const rows = keys.map(({ space, table, id }) => this.get("records", [space, table, id] as Part[]));
    return (await Promise.all(rows)).filter((row) => row !== undefined);
  }

  ranged(range: IndexRange, start: number, count: number): Promise<Key[] | undefined> {
    return this.#next(() => rangedKeys(this.#driver, range, start, count));
  }

  put<N extends Name>(name: N, row: Rows[N]): void {
    const key = LAYOUT.keys[name].map((member) => (row as unknown as Record<string, Part>)[member]);
    this.#writesOf(name).set(JSON.stringify(key), encode(name, row));
  }

  delete(name: Name, key: readonly Part[]): void {
    this.#writesOf(name).set(JSON.stringify(key), null);
  }

  /** Until all that was put is written; it takes no more from then on. Raises what any of it has raised, also earlier. */
  async flush(): Promise<void> {
    await this.#next(() => {
      this.#failure = over();
    });
  }

  /** Until what was begun is over. What waits behind it, or is asked later, fails with StoreFailed and is not done. */
  async end(): Promise<void> {
    this.#failure ??= over();
    await this.#turns.run(async () => undefined);
  }

  #writesOf(name: Name): Writes {
    const writes = this.#writes.get(name) ?? new Map();
    this.#writes.set(name, writes);
    return writes;
  }

  #find(sql: string, values: readonly SqliteValue[]): Promise<readonly SqliteRow[]> {
    return this.#next(() => this.#driver.all(sql, values));
  }

  /** Writes what was put before this was asked, and then asks it. */
  #next<T>(ask: () => T | Promise<T>): Promise<T> {
    const writes = this.#writes;
    this.#writes = new Map();
    return this.#turns.run(async () => {
      try {
        if (this.#failure) throw this.#failure;
        for (const [name, some] of writes) await this.#write(name, some);
        return await ask();
      } catch (error) {
        this.#failure = error; // nothing of a transaction is kept that has lost a part
        throw error;
      }
    });
  }

  async #write(name: Name, writes: Writes): Promise<void> {
    const put = JSON.stringify([...writes.values()].filter((row) => row !== null));
    if (put !== "[]") await this.#driver.run(upsert(name), [put]);
    const gone = [...writes].filter(([, row]) => row === null).map(([key]) => key);
    const found = `SELECT held.rowid FROM ${joined(name)}`;
    if (gone[0]) await this.#driver.run(`DELETE FROM ${name} WHERE rowid IN (${found})`, [`[${gone}]`]);
  }
}

function over(): StoreFailed {
  return new StoreFailed("its transaction is over");
}

function membersOf(name: Name, index: Index | undefined): readonly string[] {
  return (index && LAYOUT.indexes[name]?.[index]) ?? LAYOUT.keys[name];
}

function quoted(column: string): string {
  return `"${column}"`;
}

function equal(columns: readonly string[]): string {
  return columns.map((column) => `${quoted(column)} = ?`).join(" AND ") || "true";
}

/** The rows of a JSON list of keys, each looked up by its key. */
function joined(name: Name): string {
  const same = LAYOUT.keys[name].map((part, n) => `held.${quoted(part)} = json_extract(k.value, '$[${n}]')`);
  return `json_each(?) AS k CROSS JOIN ${name} AS held ON ${same.join(" AND ")}`;
}

/** Writes the rows of a JSON list. */
function upsert(name: Name): string {
  const columns = COLUMNS[name];
  const values = columns.map((_, n) => `json_extract(value, '$[${n}]')`);
  const keys = LAYOUT.keys[name];
  const others = columns.filter((column) => !keys.includes(column)).map(quoted);
  const set = others.map((column) => `${column} = excluded.${column}`);
  return `INSERT INTO ${name} (${columns.map(quoted)}) SELECT ${values} FROM json_each(?) WHERE true
    ON CONFLICT (${keys.map(quoted)}) DO ${set.length > 0 ? `UPDATE SET ${set}` : "NOTHING"}`;
}
