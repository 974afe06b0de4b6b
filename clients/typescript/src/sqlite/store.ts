/** A store in a file of SQLite, which has one owner at a time. */

import { readSearch } from "../data/searched.js";
import { StoreFailed, SyncdError, WrongReplica } from "../errors.js";
import type { MakeStore } from "../store/open.js";
import type { RowStore, RowWork } from "../store/store.js";
import { Mutex } from "../timing.js";
import type { SqliteDriver, SqliteFiles, SqliteValue } from "./driver.js";
import { makeIndexes, removeIndexes } from "./indexes.js";
import { declareSearch, freshenSearch, scrubSearch, searchedTables, settleSearch } from "./search-index.js";
import { APPLICATION, COLUMNS, FORMAT, SCHEMA, SECOND } from "./tables.js";
import { SqliteTransaction } from "./transaction.js";

/** Milliseconds between two looks whether the owner of a file is gone. */
const PAUSE = 25;
/** Milliseconds after a write until what it has replaced leaves the log beside the file. */
const TIDY = 10_000;

export interface SqliteOptions {
  /** "full", the default, flushes each write to the disk, on Apple's systems through its cache; with "normal" it survives the death of the process only. */
  readonly durability?: "full" | "normal" | undefined;
  /** Milliseconds to wait for another owner of the file to end, 1,000 by default. */
  readonly patience?: number | undefined;
}

/** Stores in files, to be given to `Replica.open` as `store`, and to `signOut`. */
export interface SqliteStores extends MakeStore {
  /**
   * Deletes the store `name` of a replica that is closed, also one that is damaged or that a newer version wrote. One that is
   * not there is no error. Raises StoreFailed, and WrongReplica for a file of something else.
   */
  destroy(name: string): Promise<void>;
}

/** Stores in files of SQLite. */
export function sqliteStore(files: SqliteFiles, options: SqliteOptions = {}): SqliteStores {
  const make: MakeStore = async (name, prepare, { search, indexes } = {}) => {
    const store = new SqliteStore(await own(files, name, options, begin));
    try {
      await store.write(prepare);
      await store.declare(search);
      await store.declareFields(indexes?.declared ?? null);
      return store;
    } catch (error) {
      await store.closed();
      throw error;
    }
  };
  const destroy = async (name: string): Promise<void> => {
    try {
      await wipe(files, name, await own(files, name, options, release));
    } catch (error) {
      throw error instanceof SyncdError ? error : new StoreFailed(error);
    }
  };
  return Object.assign(make, { destroy });
}

export class SqliteStore implements RowStore {
  readonly durable = true;
  readonly #driver: SqliteDriver;
  readonly #turns = new Mutex();
  #ended: Promise<void> | null = null;
  /** Whether SQLite may be in a transaction. */
  #begun = false;
  /** Whether there are tables that are searched. */
  #searched = false;
  #tidying: ReturnType<typeof setTimeout> | undefined;

  /** `driver`: that of a file which is this one's own, and of its format. */
  constructor(driver: SqliteDriver) {
    this.#driver = driver;
  }

  /** Reads and writes come one after the other, so a read needs no transaction. */
  read<T>(work: RowWork<T>): Promise<T> {
    return this.#turn(async () => {
      await this.#end();
      const rows = new SqliteTransaction(this.#driver);
      try {
        return await work(rows);
      } finally {
        await rows.end();
      }
    });
  }

  write<T>(work: RowWork<T>): Promise<T> {
    return this.#turn(() => this.#write(work));
  }

  /**
   * Makes the index of what is searched, in transactions of their own. Without a `search` all stays, and is kept. Where it cannot be
   * made, as without room, an index in memory answers. Raises InvalidQuery, StoreFailed where SQLite has no FTS5.
   */
  async declare(search: object | undefined): Promise<void> {
    const wanted = search && readSearch(search);
    try {
      await this.write(() => declareSearch(this.#driver, wanted));
      while (!(await this.write(() => freshenSearch(this.#driver))));
    } catch (error) {
      if (wanted && error instanceof StoreFailed) throw error;
    }
    await this.#turn(async () => {
      await this.#end();
      this.#searched = (await searchedTables(this.#driver)).length > 0;
      if (this.#searched) await scrubSearch(this.#driver);
    });
  }

  /** Makes the indexes on fields. Where they cannot be made, as without room, those in memory serve. */
  async declareFields(declared: object | null): Promise<void> {
    const removed = this.write(() => removeIndexes(this.#driver, declared)).catch(() => null);
    const wanted = await removed;
    if (wanted?.size) await this.write(() => makeIndexes(this.#driver, wanted)).catch(() => undefined);
  }

  close(): void {
    this.closed().catch(() => undefined);
  }

  /** Closes it behind what was asked before, and waits for that. */
  closed(): Promise<void> {
    clearTimeout(this.#tidying);
    this.#ended ??= this.#turns.run(async () => this.#driver.close());
    return this.#ended;
  }

  async #turn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#ended) throw new StoreFailed("it is closed");
    return this.#turns.run(work);
  }

  async #write<T>(work: RowWork<T>): Promise<T> {
    await this.#end();
    this.#begun = true;
    const rows = new SqliteTransaction(this.#driver);
    try {
      await this.#driver.run("BEGIN IMMEDIATE");
      const answer = await work(rows);
      await rows.flush();
      if (this.#searched) await settleSearch(this.#driver);
      await this.#driver.run("COMMIT");
      this.#begun = false;
      this.#tidy();
      return answer;
    } catch (error) {
      await rows.end(); // what still waits would be kept, behind the ROLLBACK
      await this.#end().catch(() => undefined); // or before the next one begins
      throw error;
    }
  }

  /** Nothing is left of a transaction that failed. SQLite has ended some by itself. */
  async #end(): Promise<void> {
    if (!this.#begun) return;
    try {
      await this.#driver.run("ROLLBACK");
    } catch (error) {
      if (!/no transaction/.test(String(error))) throw error;
    }
    this.#begun = false;
  }

  /** What was overwritten may have been erased for good: soon it is not in the log beside the file either. */
  #tidy(): void {
    if (this.#tidying || this.#ended) return;
    this.#tidying = setTimeout(() => {
      this.#tidying = undefined;
      this.#turn(() => this.#clean()).catch(() => undefined); // the next write comes back to it
    }, TIDY);
    (this.#tidying as unknown as { unref?: () => void }).unref?.(); // alone it keeps no process from ending
  }

  async #clean(): Promise<void> {
    if (this.#searched) await scrubSearch(this.#driver);
    await checkpoint(this.#driver);
  }
}

/** Deletes a file that is one's own: before it is let go of where that can be, or another would open it, write, and lose that. */
async function wipe(files: SqliteFiles, name: string, driver: SqliteDriver): Promise<void> {
  const held = files.removesOpen && (await isOneFile(driver));
  try {
    if (held) await files.remove(name);
  } finally {
    await driver.close();
  }
  if (!held) await files.remove(name);
}

/** Brings what the log beside a file has into it: SQLite deletes that log by its name when it closes. False for a damaged one. */
async function isOneFile(driver: SqliteDriver): Promise<boolean> {
  try {
    return (await only(driver, "PRAGMA journal_mode = DELETE")) === "delete";
  } catch {
    return false;
  }
}

async function checkpoint(driver: SqliteDriver): Promise<void> {
  await driver.all("PRAGMA wal_checkpoint(TRUNCATE)");
}

/** What is done first with a file that is one's own. */
type First = (driver: SqliteDriver, name: string, options: SqliteOptions) => Promise<void>;

/**
 * A connection that owns its file, once `first` is done. The lock is the system's, and ends with the process. Raises StoreFailed,
 * WrongReplica.
 */
async function own(
  files: SqliteFiles,
  name: string,
  options: SqliteOptions,
  first: First,
): Promise<SqliteDriver> {
  const deadline = Date.now() + (options.patience ?? 1000);
  for (;;) {
    const driver = await files.open(name);
    try {
      await first(driver, name, options);
      return driver;
    } catch (error) {
      const there = await isThere(driver);
      await (async () => driver.close())().catch(() => undefined);
      if (there && (error instanceof SyncdError || !/is locked/.test(String(error)))) throw error;
      if (Date.now() >= deadline)
        throw new StoreFailed(`${name} is open in another process, or in another replica`);
    }
    await new Promise((over) => setTimeout(over, PAUSE));
  }
}

async function begin(driver: SqliteDriver, name: string, { durability }: SqliteOptions): Promise<void> {
  await lock(driver, name);
  await flush(driver, durability === "normal");
  const mode = await only(driver, "PRAGMA journal_mode = WAL");
  if (mode !== "wal") throw new StoreFailed(`${name} is no file that lasts`);
  await driver.all("PRAGMA secure_delete = ON"); // what is deleted is not left in the file
  await create(driver, name);
  await checkpoint(driver);
}

/** For a file that is to be deleted: what is in it need not be read, nor be of a version that is known. */
async function release(driver: SqliteDriver, name: string): Promise<void> {
  await lock(driver, name).catch((error) => {
    if (error instanceof SyncdError || !/not a database|malformed/.test(String(error))) throw error;
  });
}

/**
 * A connection in this mode that was to write is alone with its file from then on. Nothing is written: the file may be something
 * else's. Raises WrongReplica then.
 */
async function lock(driver: SqliteDriver, name: string): Promise<void> {
  await driver.all("PRAGMA locking_mode = EXCLUSIVE");
  await driver.run("BEGIN EXCLUSIVE");
  const application = await only(driver, "PRAGMA application_id");
  const fresh = application === 0 && (await only(driver, "SELECT count(*) FROM sqlite_master")) === 0;
  if (application !== APPLICATION && !fresh) throw new WrongReplica(`${name} is no store of this client.`);
  await driver.run("COMMIT");
  // Before anything is done with the log beside it, which may be that of another file of this name.
  if (!(await isThere(driver))) throw new StoreFailed(`${name} was deleted`);
}

async function isThere(driver: SqliteDriver): Promise<boolean> {
  return (await driver.isThere?.()) !== false;
}

async function flush(driver: SqliteDriver, normal: boolean): Promise<void> {
  await driver.all(`PRAGMA synchronous = ${normal ? "NORMAL" : "FULL"}`);
  if (normal) return;
  // Where fsync() leaves it in the cache of the disk, as on iOS and macOS; elsewhere they do nothing.
  await driver.all("PRAGMA fullfsync = ON");
  await driver.all("PRAGMA checkpoint_fullfsync = ON");
}

async function create(driver: SqliteDriver, name: string): Promise<void> {
  await driver.run("BEGIN IMMEDIATE");
  const fresh = (await only(driver, "PRAGMA application_id")) !== APPLICATION;
  if (fresh) for (const statement of SCHEMA) await driver.run(statement);
  const format = (await only(driver, "PRAGMA user_version")) as number;
  if (format > FORMAT) throw new WrongReplica(`a newer version wrote ${name}: upgrade.`);
  if (format === 1) for (const statement of SECOND) await driver.run(statement);
  for (const statement of await missing(driver)) await driver.run(statement);
  await driver.run("COMMIT");
}

/** What a file of before has not got. A version of before takes no notice of it. */
async function missing(driver: SqliteDriver): Promise<string[]> {
  const held = (await driver.all("SELECT name FROM pragma_table_info('spaces')")).map(({ name }) => name);
  return COLUMNS.spaces
    .filter((column) => !held.includes(column))
    .map((column) => `ALTER TABLE spaces ADD COLUMN ${column} TEXT`);
}

async function only(driver: SqliteDriver, sql: string): Promise<SqliteValue | undefined> {
  const [row] = await driver.all(sql);
  return Object.values(row ?? {})[0];
}
