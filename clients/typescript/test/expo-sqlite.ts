/**
 * In the place of the module `expo-sqlite`: the part of its API that a client may use, over node:sqlite. As there, each call is
 * answered later, a connection is shared unless a new one is asked for, a statement that writes is stepped once, numbers come
 * as they go, and what fails says so in Android's words.
 */

import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Connection, connect } from "./node-sqlite.js";

export type SQLiteBindValue = string | number | null | boolean | Uint8Array;
export type SQLiteBindParams = Record<string, SQLiteBindValue> | SQLiteBindValue[];

export interface SQLiteOpenOptions {
  enableChangeListener?: boolean;
  useNewConnection?: boolean;
}

export const defaultDatabaseDirectory = process.env.EXPO_SQLITE ?? ".";
/** Open connections. */
const held = new Set<SQLiteDatabase>();

async function native<T>(call: string, work: () => T): Promise<T> {
  await new Promise((later) => setImmediate(later));
  try {
    return work();
  } catch (error) {
    const { errcode, message } = error as { errcode?: number; message: string };
    const said = `Call to function '${call}' has been rejected.\n→ Caused by: Error code ${errcode}: ${message}`;
    throw new Error(said);
  }
}

export class SQLiteDatabase {
  users = 1;
  readonly databasePath: string;
  readonly options: SQLiteOpenOptions;
  readonly #native: Connection;

  constructor(databasePath: string, options: SQLiteOpenOptions) {
    this.databasePath = databasePath;
    this.options = options;
    this.#native = connect(databasePath);
  }

  execAsync(source: string): Promise<void> {
    return native("NativeDatabase.execAsync", () => this.#native.exec(source));
  }

  runAsync(source: string, params: SQLiteBindParams): Promise<{ lastInsertRowId: number; changes: number }>;
  runAsync(
    source: string,
    ...params: SQLiteBindValue[]
  ): Promise<{ lastInsertRowId: number; changes: number }>;
  runAsync(source: string, ...params: unknown[]): Promise<{ lastInsertRowId: number; changes: number }> {
    return native("NativeStatement.runAsync", () => {
      const { lastInsertRowid, changes } = this.#native.prepare(source).run(...bound(params));
      return { lastInsertRowId: Number(lastInsertRowid), changes: Number(changes) };
    });
  }

  getAllAsync<T>(source: string, params: SQLiteBindParams): Promise<T[]>;
  getAllAsync<T>(source: string, ...params: SQLiteBindValue[]): Promise<T[]>;
  getAllAsync<T>(source: string, ...params: unknown[]): Promise<T[]> {
    return native("NativeStatement.runAsync", () => {
      const rows = this.#native.prepare(source).all(...bound(params));
      return rows.map((row) => ({ ...(row as object) }) as T);
    });
  }

  closeAsync(): Promise<void> {
    return native("NativeDatabase.closeAsync", () => {
      if (!held.has(this)) throw new Error("Access to closed resource");
      this.users -= 1;
      if (this.users > 0) return;
      held.delete(this);
      this.#native.close();
    });
  }
}

function bound(params: readonly unknown[]): SQLiteBindValue[] {
  const [first] = params;
  const given = (params.length === 1 && Array.isArray(first) ? first : params) as SQLiteBindValue[];
  return given.map((value) => (typeof value === "boolean" ? Number(value) : (value ?? null)));
}

export function openDatabaseAsync(
  databaseName: string,
  options: SQLiteOpenOptions = {},
  directory = defaultDatabaseDirectory,
): Promise<SQLiteDatabase> {
  const path = join(directory, databaseName);
  return native("ExpoSQLite.NativeDatabase", () => {
    const same = [...held].find((one) => one.databasePath === path && !one.options.useNewConnection);
    if (same && !options.useNewConnection) {
      same.users += 1;
      return same;
    }
    const database = new SQLiteDatabase(path, options);
    held.add(database);
    return database;
  });
}

export function deleteDatabaseAsync(
  databaseName: string,
  directory = defaultDatabaseDirectory,
): Promise<void> {
  const path = join(directory, databaseName);
  return native("ExpoSQLite.deleteDatabaseAsync", () => {
    if ([...held].some((one) => one.databasePath === path))
      throw new Error(`Unable to delete database '${path}' that is currently open`);
    if (!existsSync(path)) throw new Error(`Database '${path}' not found`);
    rmSync(path);
  });
}
