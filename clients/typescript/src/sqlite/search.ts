/**
 * Search in a file of SQLite: FTS5 finds the records, and SQL says which are first, by the rule of data/searched.ts.
 *
 * Triggers note which records read differently, also where a version writes that knows of no search. What is noted is in the index
 * before the transaction ends.
 */

import { type AskedWord, RULE, readSearch, textsAt } from "../data/searched.js";
import { type JsonObject, parse } from "../data/values.js";
import { StoreFailed } from "../errors.js";
import type { SqliteDriver, SqliteRow, SqliteValue } from "./driver.js";

const PREFIX = "search_words_";
/** Records that are brought up to date at once. */
const CHUNK = 500;

function trigger(event: string, row: string, more = ""): string {
  return `CREATE TRIGGER IF NOT EXISTS search_${event} AFTER ${event} ON records
    WHEN ${row}."table" IN (SELECT "table" FROM search_tables)${more}
    BEGIN INSERT INTO search_changed (space, "table", id) VALUES (${row}.space, ${row}."table", ${row}.id); END`;
}

const NAMES = `space TEXT NOT NULL, "table" TEXT NOT NULL, id TEXT NOT NULL`;
const TABLES: readonly string[] = [
  `CREATE TABLE IF NOT EXISTS search_tables ("table" TEXT PRIMARY KEY, fields TEXT NOT NULL, words TEXT NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS search_records (n INTEGER PRIMARY KEY, ${NAMES}, UNIQUE ("table", space, id))`,
  `CREATE TABLE IF NOT EXISTS search_changed (n INTEGER PRIMARY KEY, ${NAMES})`,
  trigger("INSERT", "NEW"),
  trigger("UPDATE", "NEW", " AND NEW.doc <> OLD.doc"),
  trigger("DELETE", "OLD"),
];

/** A table that is searched: its fields, and the table of FTS5 that has their words. */
interface SearchedTable {
  readonly table: string;
  readonly fields: readonly string[];
  /** The rule and the fields, as text. */
  readonly said: string;
  readonly words: string;
}

/** The tables of a file that are searched. */
async function held(driver: SqliteDriver): Promise<SearchedTable[]> {
  const there = await driver.all("SELECT 1 FROM sqlite_master WHERE name = 'search_tables'");
  if (!there[0]) return [];
  const rows = await driver.all(`SELECT "table", fields AS said, words FROM search_tables ORDER BY words`);
  return rows.map((row) => ({ ...row, fields: JSON.parse(row.said as string)[1] }) as never);
}

/**
 * Makes the index of these tables, and removes those of others; undefined leaves all. In a transaction. Returns whether the file
 * has any. Raises InvalidQuery, StoreFailed where SQLite has no FTS5.
 */
export async function declareSearch(driver: SqliteDriver, search: object | undefined): Promise<boolean> {
  const before = await held(driver);
  if (!search) return before.length > 0;
  const wanted = readSearch(search);
  const said = (table: string): string => JSON.stringify([RULE, wanted.get(table)]);
  for (const one of before) {
    if (wanted.has(one.table) && said(one.table) === one.said) continue;
    await driver.run(`DELETE FROM search_tables WHERE "table" = ?`, [one.table]);
    await driver.run(`DELETE FROM search_records WHERE "table" = ?`, [one.table]);
    await driver.run(`DROP TABLE ${one.words}`);
  }
  const kept = before.filter((one) => said(one.table) === one.said).map(({ table }) => table);
  const fresh = [...wanted.keys()].filter((table) => !kept.includes(table));
  if (fresh[0]) for (const statement of TABLES) await driver.run(statement);
  for (const table of fresh) await make(driver, table, wanted.get(table) as readonly string[], said(table));
  return wanted.size > 0;
}

async function make(
  driver: SqliteDriver,
  table: string,
  fields: readonly string[],
  said: string,
): Promise<void> {
  const used = (await held(driver)).map(({ words }) => Number(words.slice(PREFIX.length)));
  const name = `${PREFIX}${Math.max(0, ...used) + 1}`;
  // ASCII folds nothing that is folded already, and takes every other letter as it is.
  const how = "tokenize='ascii', detail=none, columnsize=0";
  try {
    await driver.run(`CREATE VIRTUAL TABLE ${name} USING fts5(${columnsOf(fields)}, ${how})`);
  } catch (error) {
    throw /no such module/.test(String(error))
      ? new StoreFailed("its SQLite has no FTS5, which a search needs")
      : error;
  }
  // Before SQLite 3.42 there is no such thing, and words may stay in its pages until it has put them together.
  await (async () => driver.run(`INSERT INTO ${name} (${name}, rank) VALUES ('secure-delete', 1)`))().catch(
    () => undefined,
  );
  await driver.run("INSERT INTO search_tables VALUES (?, ?, ?)", [table, said, name]);
  await driver.run(
    `INSERT INTO search_changed (space, "table", id)
    SELECT space, "table", id FROM records WHERE "table" = ? AND deleted = 0`,
    [table],
  );
}

/** Brings the index up to what the transaction has changed, some records at once. */
export async function settleSearch(driver: SqliteDriver): Promise<void> {
  let tables: SearchedTable[] | undefined;
  for (;;) {
    const [{ last = null } = {}] = await driver.all(
      `SELECT max(n) AS last FROM (SELECT n FROM search_changed ORDER BY n LIMIT ${CHUNK})`,
    );
    if (last === null) return;
    tables ??= await held(driver);
    for (const table of tables) await renew(driver, table, last);
    await driver.run("DELETE FROM search_changed WHERE n <= ?", [last]);
  }
}

/** Puts the words of the records that were noted up to `last`, as they stand, in the place of those that they had. */
async function renew(
  driver: SqliteDriver,
  { table, fields, words }: SearchedTable,
  last: SqliteValue,
): Promise<void> {
  const columns = columnsOf(fields);
  const held = fields.map((_, n) => `w.f${n}`).join(", ");
  const rows = await driver.all(
    `SELECT c.space, c.id, s.n, r.doc, ${held}
    FROM (SELECT DISTINCT space, id FROM search_changed WHERE n <= ? AND "table" = ?) c
    LEFT JOIN search_records s ON s."table" = ? AND s.space = c.space AND s.id = c.id
    LEFT JOIN records r ON r.space = c.space AND r."table" = ? AND r.id = c.id AND r.deleted = 0
    LEFT JOIN ${words} w ON w.rowid = s.n`,
    [last, table, table, table],
  );
  const texts = rows.map((row) => textsOf(row, fields));
  const changed = rows.flatMap((row, n) => {
    const own = texts[n] as readonly string[];
    return fields.every((_, place) => (row[`f${place}`] ?? "") === own[place]) ? [] : [{ row, own }];
  });
  if (!changed[0]) return;
  const gone = changed.filter(({ own }) => !own.some((text) => text)).map(({ row }) => row.n ?? null);
  const fresh = changed.filter(({ row }) => (row.n ?? null) === null).map(({ row }) => [row.space, row.id]);
  const old = JSON.stringify(changed.map(({ row }) => row.n).filter((n) => (n ?? null) !== null));
  await driver.run(`DELETE FROM ${words} WHERE rowid IN (SELECT value FROM json_each(?))`, [old]);
  if (gone[0])
    await driver.run("DELETE FROM search_records WHERE n IN (SELECT value FROM json_each(?))", [
      JSON.stringify(gone),
    ]);
  if (fresh[0])
    await driver.run(
      `INSERT INTO search_records ("table", space, id)
      SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)`,
      [table, JSON.stringify(fresh)],
    );
  const put = changed.filter(({ own }) => own.some((text) => text));
  const values = fields.map((_, n) => `json_extract(k.value, '$[${n + 2}]')`);
  if (put[0])
    await driver.run(
      `INSERT INTO ${words} (rowid, ${columns}) SELECT s.n, ${values} FROM json_each(?) k
      CROSS JOIN search_records s ON s."table" = ? AND s.space = json_extract(k.value, '$[0]')
      AND s.id = json_extract(k.value, '$[1]')`,
      [JSON.stringify(put.map(({ row, own }) => [row.space, row.id, ...own])), table],
    );
}

function textsOf(row: SqliteRow, fields: readonly string[]): string[] {
  const doc = (typeof row.doc === "string" ? parse(row.doc) : {}) as JsonObject;
  return textsAt((field) => (Object.hasOwn(doc, field) ? doc[field] : undefined), fields);
}

function columnsOf(fields: readonly string[]): string {
  return fields.map((_, n) => `f${n}`).join(", ");
}

/** What finds the keys of the records that have every word, best first. Undefined: no such table is searched. */
export async function searchStatement(
  driver: SqliteDriver,
  table: string,
  space: string | null,
  asked: readonly AskedWord[],
  limit: number,
): Promise<readonly [sql: string, values: readonly SqliteValue[]] | undefined> {
  const searched = (await held(driver)).find((one) => one.table === table);
  if (!searched) return undefined;
  const { words, fields } = searched;
  const points = asked.map((one) => pointsOf(one, fields));
  const hits = asked.flatMap((one) => hitsOf(one, fields));
  const sum = (some: readonly Part[]): string => some.map(({ sql }) => sql).join(" + ");
  const match = asked.map(({ word, begins }) => `"${word}"${begins ? "*" : ""}`).join(" ");
  return [
    `SELECT r.space, r."table", r.id FROM ${words} w JOIN search_records r ON r.n = w.rowid
    WHERE ${words} MATCH ? AND (? IS NULL OR r.space = ?)
    ORDER BY ${sum(points)} DESC, ${sum(hits)} DESC, r.id, r.space LIMIT ?`,
    [
      match,
      space,
      space,
      ...[...points, ...hits].flatMap(({ values }) => values),
      Number.isFinite(limit) ? limit : -1,
    ],
  ];
}

/** A part of a statement. Its `?` have no numbers: a Node before 22.19 takes none that have. */
interface Part {
  readonly sql: string;
  readonly values: readonly string[];
}

function pointsOf({ word, begins }: AskedWord, fields: readonly string[]): Part {
  const texts = begins ? [` ${word} `, ` ${word}`] : [` ${word} `];
  const cases = fields.flatMap((_, n) =>
    texts.map((_text, less) => `WHEN instr(f${n}, ?) THEN ${2 * (fields.length - n) + 1 - less}`),
  );
  return { sql: `CASE ${cases.join(" ")} ELSE 0 END`, values: fields.flatMap(() => texts) };
}

function hitsOf({ word, begins }: AskedWord, fields: readonly string[]): Part[] {
  const counted = begins ? ` ${word}` : ` ${word} `;
  const { length } = [...counted]; // as SQLite counts
  return fields.map((_, n) => ({
    sql: `(length(f${n}) - length(replace(f${n}, ?, ''))) / ${length}`,
    values: [counted],
  }));
}
