/** The module node:sqlite, by hand: a bundler would look for `sqlite`, and Node 20 has none. */

import { execFileSync } from "node:child_process";

interface Statement {
  all(...values: unknown[]): unknown[];
  run(...values: unknown[]): { lastInsertRowid: number | bigint; changes: number | bigint };
}

export interface Connection {
  exec(sql: string): void;
  prepare(sql: string): Statement;
  close(): void;
}

interface Sqlite {
  DatabaseSync: new (path: string, options?: { defensive?: boolean }) => Connection;
}

export const sqlite = (
  process as { getBuiltinModule?: (name: string) => Sqlite | undefined }
).getBuiltinModule?.("node:sqlite");

/** A connection of a test's own, which may also write what only SQLite itself writes else. */
export function connect(path: string): Connection {
  return new (sqlite as Sqlite).DatabaseSync(path, { defensive: false });
}

/** What a statement finds in a file, once that is let go of. */
export async function executed(path: string, sql: string): Promise<unknown[]> {
  const connection = connect(path);
  try {
    for (;;) {
      try {
        return connection.prepare(sql).all();
      } catch (error) {
        if (!/is locked/.test(String(error))) throw error;
      }
      await new Promise((later) => setTimeout(later, 5));
    }
  } finally {
    connection.close();
  }
}

/** A Node that has it: this one, or the one that Playwright brings to Python's tests. */
export function nodeWithSqlite(): string {
  if (sqlite) return process.execPath;
  const asked = "from playwright._impl._driver import compute_driver_executable as c; print(c()[0])";
  return String(execFileSync(process.env.SYNCD_PYTHON ?? "python3", ["-c", asked])).trim();
}
