/** SQLite as Node has it. */

import { StoreFailed } from "../errors.js";
import type { SqliteDriver, SqliteRow, SqliteValue } from "./driver.js";
import { type SqliteOptions, type SqliteStores, sqliteStore } from "./store.js";

interface Statement {
  all(...values: SqliteValue[]): unknown[];
  run(...values: SqliteValue[]): unknown;
}

interface Database {
  prepare(sql: string): Statement;
  close(): void;
}

/** What is used of the modules `node:sqlite` and `node:fs`. */
interface Modules {
  "node:sqlite": { DatabaseSync: new (path: string) => Database };
  "node:fs": {
    rmSync(path: string, options: { force: boolean }): void;
    statSync(path: string, options: { throwIfNoEntry: false }): { readonly ino: number } | undefined;
  };
}

/** The file itself is the last to go: without it nobody would look for the others. */
const PARTS = ["-wal", "-shm", "-journal", ""];

/**
 * Stores in files, for Node 22.13 or newer: the name of a replica is the path of its file. Everything in it is done in the
 * thread that asks.
 */
export function nodeSqlite(options: SqliteOptions = {}): SqliteStores {
  const open = (path: string): SqliteDriver => {
    const { DatabaseSync } = moduleOf("node:sqlite");
    const file = numberOf(path); // not one that takes its place
    return new NodeDriver(new DatabaseSync(path), path, file);
  };
  const remove = (path: string): void => {
    for (const part of PARTS) moduleOf("node:fs").rmSync(path + part, { force: true });
  };
  return sqliteStore({ open, remove, removesOpen: !onWindows() }, options);
}

/** The system's number for the file of that name; undefined: there is none. */
function numberOf(path: string): number | undefined {
  return moduleOf("node:fs").statSync(path, { throwIfNoEntry: false })?.ino;
}

/** There an open file keeps its name. */
function onWindows(): boolean {
  return (globalThis as { process?: { platform?: string } }).process?.platform === "win32";
}

/** A module of Node, without an import that a bundler for something else would stumble over. Raises StoreFailed. */
function moduleOf<N extends keyof Modules>(name: N): Modules[N] {
  const { process } = globalThis as unknown as {
    process?: { getBuiltinModule?: (name: string) => Modules[N] | undefined };
  };
  const found = process?.getBuiltinModule?.(name);
  if (!found) throw new StoreFailed(`there is no ${name} here; Node has it from 22.13 on`);
  return found;
}

class NodeDriver implements SqliteDriver {
  readonly #database: Database;
  readonly #statements = new Map<string, Statement>();
  readonly #path: string;
  readonly #file: number | undefined;

  /** `file`: the number of the file that was there before it was opened, where there was one. */
  constructor(database: Database, path: string, file = numberOf(path)) {
    this.#database = database;
    this.#path = path;
    this.#file = file;
  }

  all(sql: string, values: readonly SqliteValue[] = []): readonly SqliteRow[] {
    return this.#prepared(sql).all(...values) as SqliteRow[];
  }

  run(sql: string, values: readonly SqliteValue[] = []): void {
    this.#prepared(sql).run(...values);
  }

  close(): void {
    this.#database.close();
  }

  isThere(): boolean {
    return onWindows() || numberOf(this.#path) === this.#file;
  }

  #prepared(sql: string): Statement {
    const statement = this.#statements.get(sql) ?? this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}
