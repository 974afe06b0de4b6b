/**
 * Stores in files of SQLite, for tests. A Node that has no node:sqlite tests the others alone; test/sqlite.test.ts has one that
 * does run them all.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MakeStore, ReplicaOptions } from "../src/index.js";
import { expoSqlite, nodeSqlite, type SqliteOptions, type SqliteStores } from "../src/sqlite/index.js";
import type { RecordRow } from "../src/store/store.js";
import { sqlite } from "./node-sqlite.js";

const folders: string[] = [];
process.on("exit", () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A folder that is gone with this process. */
export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "syncd-files-"));
  folders.push(folder);
  return folder;
}

/** A store of these tests needs nothing to be done when it is opened. */
export const prepare = async (): Promise<void> => undefined;

/** A row of a record with one field. */
export function record(id: string, value: string): RecordRow {
  const view = new Map([["n", { value, at: "2026-01-01T10:00:00.000000Z", client: "me" }]]);
  return { space: "", table: "t", id, deleted: false, round: 0, view, base: null };
}

/** The stores of this kind whose files lie in a folder. */
type Kind = (folder: string, options?: SqliteOptions) => SqliteStores;

function node(folder: string, options: SqliteOptions = {}): SqliteStores {
  const stores = nodeSqlite(options);
  const make: MakeStore = (name, ...more) => stores(join(folder, name), ...more);
  return Object.assign(make, { destroy: (name: string) => stores.destroy(join(folder, name)) });
}

async function expo(folder: string, options: SqliteOptions = {}): Promise<SqliteStores> {
  return expoSqlite(await import("./expo-sqlite.js"), { directory: folder, ...options });
}

function later(made: typeof expo): Kind {
  return (folder, options) => {
    const make: MakeStore = async (name, ...more) => (await made(folder, options))(name, ...more);
    return Object.assign(make, {
      destroy: async (name: string) => (await made(folder, options)).destroy(name),
    });
  };
}

export const FILES: readonly [name: string, kind: Kind][] = sqlite
  ? [
      ["node:sqlite", node],
      ["expo-sqlite", later(expo)],
    ]
  : [];

/** In what all replicas of a run are kept: one of FILES by its name, or a browser's IndexedDB. */
const KIND = new Map(FILES).get(process.env.TEST_STORE ?? "");
/** Whether a store has one owner at a time, as a file has. */
export const ALONE = KIND !== undefined;
const kept = new WeakMap<IDBFactory, string>();

/** Where a replica of a test is kept, which has the same store as others with the same `indexedDB` and name. */
export function keptIn(indexedDB: IDBFactory | null): Partial<ReplicaOptions> {
  if (!KIND) return { indexedDB };
  const folder = (indexedDB && kept.get(indexedDB)) ?? newFolder();
  if (indexedDB) kept.set(indexedDB, folder);
  return { store: KIND(folder, { durability: "normal" }) };
}
