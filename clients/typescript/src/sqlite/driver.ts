/** What the store asks of SQLite: one connection to one file, whatever brings it. */

export type SqliteValue = string | number | null;

/** A row, by the names of its columns. */
export type SqliteRow = { readonly [column: string]: SqliteValue };

/** A connection that nobody else uses. What it answers is there at once, or promised. */
export interface SqliteDriver {
  /** The rows that a statement finds. `values` stand for its `?`, in their order. */
  all(sql: string, values?: readonly SqliteValue[]): readonly SqliteRow[] | Promise<readonly SqliteRow[]>;
  /** Executes a statement that finds nothing. */
  run(sql: string, values?: readonly SqliteValue[]): void | Promise<void>;
  close(): void | Promise<void>;
  /** Whether its file still has the name that it was opened by: another may have deleted it meanwhile. Without it, it has. */
  isThere?(): boolean | Promise<boolean>;
}

/** Where the files are. */
export interface SqliteFiles {
  /** A new connection to the file `name`, which is made where there is none. */
  open(name: string): SqliteDriver | Promise<SqliteDriver>;
  /** Deletes the file, which nobody has open but, where it `removesOpen`, who asks. */
  remove(name: string): void | Promise<void>;
  /** Whether `remove` takes the name of a file that is open, and nothing else: its owner keeps it until it is gone then. */
  readonly removesOpen?: boolean | undefined;
}
