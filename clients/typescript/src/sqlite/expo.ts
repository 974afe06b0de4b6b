/** SQLite as Expo and React Native have it, in `expo-sqlite`. */

import type { SqliteDriver, SqliteRow, SqliteValue } from "./driver.js";
import { type SqliteOptions, type SqliteStores, sqliteStore } from "./store.js";

/** What is used of its databases. */
export interface ExpoDatabase {
  getAllAsync(sql: string, values: SqliteValue[]): Promise<unknown[]>;
  runAsync(sql: string, values: SqliteValue[]): Promise<unknown>;
  closeAsync(): Promise<void>;
}

/** What is used of the module `expo-sqlite`. */
export interface ExpoSqlite {
  openDatabaseAsync(
    name: string,
    options?: { useNewConnection?: boolean },
    directory?: string,
  ): Promise<ExpoDatabase>;
  deleteDatabaseAsync(name: string, directory?: string): Promise<void>;
}

export interface ExpoOptions extends SqliteOptions {
  /** Where the files are, if that is not where `expo-sqlite` has its own. */
  readonly directory?: string | undefined;
}

/**
 * Stores in files of `expo-sqlite`, which is given as a whole: `import * as SQLite from "expo-sqlite"`. The name of a replica is
 * the name of its file.
 */
export function expoSqlite(module: ExpoSqlite, { directory, ...options }: ExpoOptions = {}): SqliteStores {
  // One that the application has open as well would be one connection with it, and one transaction.
  const open = async (name: string): Promise<SqliteDriver> =>
    new ExpoDriver(await module.openDatabaseAsync(name, { useNewConnection: true }, directory));
  return sqliteStore({ open, remove: (name) => module.deleteDatabaseAsync(name, directory) }, options);
}

class ExpoDriver implements SqliteDriver {
  readonly #database: ExpoDatabase;

  constructor(database: ExpoDatabase) {
    this.#database = database;
  }

  async all(sql: string, values: readonly SqliteValue[] = []): Promise<readonly SqliteRow[]> {
    return (await this.#database.getAllAsync(sql, [...values])) as SqliteRow[];
  }

  async run(sql: string, values: readonly SqliteValue[] = []): Promise<void> {
    await this.#database.runAsync(sql, [...values]);
  }

  close(): Promise<void> {
    return this.#database.closeAsync();
  }
}
