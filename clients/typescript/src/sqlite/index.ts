/** @syncd/client/sqlite: a replica's records in a file of SQLite, in Node and in React Native. */

export type { SqliteDriver, SqliteFiles, SqliteRow, SqliteValue } from "./driver.js";
export { type ExpoDatabase, type ExpoOptions, type ExpoSqlite, expoSqlite } from "./expo.js";
export { nodeSqlite } from "./node.js";
export { type SqliteOptions, type SqliteStores, sqliteStore } from "./store.js";
