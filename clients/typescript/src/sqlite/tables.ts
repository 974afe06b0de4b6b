/** The tables of a store, and its rows as their columns. */

import type { Instant } from "../data/clock.js";
import type { Register, Registers } from "../data/merge.js";
import { dump, type Json, type JsonObject, parse } from "../data/values.js";
import type { Name, RecordRow, Rows } from "../store/store.js";
import type { SqliteRow, SqliteValue } from "./driver.js";

/** Of the tables below. A file with a greater one was written by a newer version. */
export const FORMAT = 2;
/** In the head of the file: whose it is. */
export const APPLICATION = 0x73796364;

/**
 * A column is called as the member of a row that lies in it. Of a record, `doc` has the values by field, and `stamps` a list for
 * fields beside each other that were written at once: [at, client, sent or null, ...fields]. `base` is a list of [field, register].
 */
export const COLUMNS: { readonly [name in Name]: readonly string[] } = {
  meta: ["name", "meta"],
  records: ["space", "table", "id", "deleted", "round", "doc", "stamps", "base"],
  outbox: [
    "position",
    "changeId",
    "batch",
    "space",
    "table",
    "id",
    "state",
    "body",
    "size",
    "code",
    "detail",
    "field",
  ],
  conflicts: ["number", "space", "conflict"],
  spaces: ["id", "name", "role"],
};

export const SCHEMA: readonly string[] = [
  `CREATE TABLE meta (name TEXT PRIMARY KEY, meta TEXT NOT NULL)`,
  `CREATE TABLE records (space TEXT NOT NULL, "table" TEXT NOT NULL, id TEXT NOT NULL, deleted INTEGER NOT NULL,
    round INTEGER NOT NULL, doc TEXT NOT NULL, stamps TEXT NOT NULL, base TEXT, PRIMARY KEY (space, "table", id))`,
  `CREATE INDEX records_table ON records ("table", space, id)`,
  `CREATE TABLE outbox (position INTEGER PRIMARY KEY, changeId TEXT NOT NULL, batch TEXT NOT NULL, space TEXT NOT NULL,
    "table" TEXT NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL, size INTEGER NOT NULL, code TEXT,
    detail TEXT, field TEXT)`,
  `CREATE INDEX outbox_change ON outbox (changeId)`,
  `CREATE INDEX outbox_state ON outbox (state, position)`,
  `CREATE INDEX outbox_record ON outbox (space, "table", id, position)`,
  `CREATE INDEX outbox_batch ON outbox (batch, position)`,
  `CREATE TABLE conflicts (number INTEGER PRIMARY KEY, space TEXT NOT NULL, conflict TEXT NOT NULL)`,
  `CREATE INDEX conflicts_space ON conflicts (space)`,
  `CREATE TABLE spaces (id TEXT PRIMARY KEY, name TEXT, role TEXT)`,
  `PRAGMA application_id = ${APPLICATION}`,
  `PRAGMA user_version = ${FORMAT}`,
];

/** What makes a file of the first format one of the second. */
export const SECOND: readonly string[] = [
  `ALTER TABLE outbox ADD COLUMN field TEXT`,
  `PRAGMA user_version = 2`,
];

type Stamp = [at: Instant, client: string, sent: Instant | null, ...fields: string[]];

/** A row as its columns. */
export function encode<N extends Name>(name: N, row: Rows[N]): SqliteValue[] {
  const members: object = name === "records" ? flat(row as RecordRow) : row;
  return COLUMNS[name].map((column) => plain((members as JsonObject)[column] ?? null));
}

function plain(value: Json): SqliteValue {
  if (typeof value === "object" && value !== null) return dump(value);
  return typeof value === "boolean" ? Number(value) : (value as SqliteValue);
}

function flat({ view, base, ...names }: RecordRow): object {
  const stamps: Stamp[] = [];
  for (const [field, { at, client, sent = null }] of view) {
    const last = stamps.at(-1);
    if (last?.[0] === at && last[1] === client && last[2] === sent) last.push(field);
    else stamps.push([at, client, sent, field]);
  }
  const doc = Object.fromEntries(Array.from(view, ([field, { value }]) => [field, value]));
  return { ...names, doc, stamps, base: base && [...base] };
}

/** A row of its columns. */
export function decode<N extends Name>(name: N, kept: SqliteRow): Rows[N] {
  const read = (column: string): Json => parse(kept[column] as string);
  if (name === "records") return recordOf(kept, read) as Rows[N];
  const row = { ...kept } as object;
  if (name === "meta") return { ...row, meta: read("meta") } as unknown as Rows[N];
  return (name === "conflicts" ? { ...row, conflict: read("conflict") } : row) as Rows[N];
}

/** Member by member: thousands of them are read at once. */
function recordOf(kept: SqliteRow, read: (column: string) => Json): RecordRow {
  const { space, table, id, round } = kept as unknown as RecordRow;
  const view = viewOf(read("doc") as JsonObject, read("stamps") as unknown as Stamp[]);
  const base = kept.base === null ? null : new Map(read("base") as unknown as [string, Register][]);
  return { space, table, id, deleted: kept.deleted === 1, round, view, base };
}

function viewOf(doc: JsonObject, stamps: readonly Stamp[]): Registers {
  const view: Registers = new Map();
  for (const [at, client, sent, ...fields] of stamps) {
    for (const field of fields) {
      const value = doc[field] as Json;
      view.set(field, sent === null ? { value, at, client } : { value, at, client, sent });
    }
  }
  return view;
}
