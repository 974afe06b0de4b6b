/**
 * The index of the searched tables of a file: how it is made, and kept.
 *
 * Triggers note which records read differently, also where a version writes that knows of no search. What is noted is in the index
 * before the transaction ends. An index costs no write: where one cannot be kept, an index in memory answers, and the next opening
 * makes another one.
 */

import { RULE, type SearchedFields, textsAt } from "../data/searched.js";
import { type JsonObject, parse } from "../data/values.js";
import { StoreFailed } from "../errors.js";
import type { SqliteDriver, SqliteRow, SqliteValue } from "./driver.js";

const PREFIX = "search_words_";
/** Records that are brought up to date at once. */
const CHUNK = 500;
/** Records that wait for that: where it fails for more, the index is made again. */
const MOST_NOTED = 10_000;
/** From so many on FTS5 removes words faster where it removes them all at the end. */
const MANY = 1000;
/** FTS5 cannot do it now, and its index is sound. */
const PASSING = /no such module|is full|I\/O error|out of memory|is locked|interrupted|readonly/;
const EVER = Number.MIN_SAFE_INTEGER;

function trigger(event: string, row: string, more = ""): string {
  return `CREATE TRIGGER IF NOT EXISTS search_${event} AFTER ${event} ON records
    WHEN ${row}."table" IN (SELECT "table" FROM search_tables)${more}
    BEGIN INSERT INTO search_changed (space, "table", id) VALUES (${row}.space, ${row}."table", ${row}.id); END`;
}

const NAMES = `space TEXT NOT NULL, "table" TEXT NOT NULL, id TEXT NOT NULL`;
/**
 * `search_tables.words`: the table of FTS5; empty: there is none, and it is to be made. `search_changed.n`: below 0 for what was there
 * when the index was begun.
 */
const TABLES: readonly string[] = [
  `CREATE TABLE IF NOT EXISTS search_tables ("table" TEXT PRIMARY KEY, fields TEXT NOT NULL, words TEXT NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS search_records (n INTEGER PRIMARY KEY, ${NAMES}, UNIQUE ("table", space, id))`,
  `CREATE TABLE IF NOT EXISTS search_changed (n INTEGER PRIMARY KEY, ${NAMES})`,
  trigger("INSERT", "NEW"),
  trigger("UPDATE", "NEW", " AND NEW.doc <> OLD.doc"),
  trigger("DELETE", "OLD"),
];

/** A table that is searched: its fields, and the table of FTS5 that has their words. */
export interface SearchedTable {
  readonly table: string;
  readonly fields: readonly string[];
  /** The rule and the fields, as text. */
  readonly said: string;
  readonly words: string;
}

/** The rule and the fields of a table, as text. */
export function saidOf(fields: readonly string[] | undefined): string {
  return JSON.stringify([RULE, fields]);
}

/** The tables of a file that are searched. */
export async function searchedTables(driver: SqliteDriver): Promise<SearchedTable[]> {
  const there = await driver.all("SELECT 1 FROM sqlite_master WHERE name = 'search_tables'");
  if (!there[0]) return [];
  const rows = await driver.all(`SELECT "table", fields AS said, words FROM search_tables ORDER BY words`);
  return rows.map((row) => ({ ...row, fields: JSON.parse(row.said as string)[1] }) as never);
}

/**
 * The searched tables are these from now on, and those that are new are to be made by `freshenSearch`; undefined leaves all. An
 * index that does not find what is in it is to be made again. In a transaction. Returns whether the file has any.
 */
export async function declareSearch(driver: SqliteDriver, wanted?: SearchedFields): Promise<boolean> {
  const before = await searchedTables(driver);
  const said = (table: string): string => saidOf(wanted?.get(table));
  for (const one of before) {
    if (wanted && said(one.table) !== one.said) {
      await driver.run(`DELETE FROM search_tables WHERE "table" = ?`, [one.table]);
      await forget(driver, one.table);
    } else if (one.words && !(await isSound(driver, one))) await retire(driver, [one]);
  }
  if (wanted?.size) for (const statement of TABLES) await driver.run(statement);
  for (const table of wanted?.keys() ?? [])
    await driver.run("INSERT INTO search_tables VALUES (?, ?, '') ON CONFLICT DO NOTHING", [
      table,
      said(table),
    ]);
  if (before[0]) await removeUnused(driver);
  return (wanted?.size ?? before.length) > 0;
}

/**
 * Does a part of what is left to do, in a transaction: makes the tables of FTS5 that are missing, or brings some records up to date.
 * Returns whether that was all. Raises StoreFailed where SQLite has no FTS5.
 */
export async function freshenSearch(driver: SqliteDriver): Promise<boolean> {
  const tables = await searchedTables(driver);
  for (const one of tables) if (!one.words) await make(driver, one);
  if (tables.some(({ words }) => !words)) return false;
  return guarded(driver, (at) => step(driver, EVER, at));
}

/** Brings the index up to what the transaction has changed. Where that fails, it is left for later. */
export async function settleSearch(driver: SqliteDriver): Promise<void> {
  const [{ noted = 0 } = {}] = await driver.all("SELECT count(*) AS noted FROM search_changed WHERE n >= 0");
  if (noted === 0) return;
  await attempt(() =>
    guarded(driver, async (at) => {
      const many = (noted as number) >= MANY ? await erasing(driver) : [];
      for (const { words } of many) await driver.run(configured(words, 0));
      while (!(await step(driver, 0, at)));
      for (const { words } of many) {
        await driver.run(merged(words));
        await driver.run(configured(words, 1));
      }
    }),
  );
}

/** What was deleted leaves the index's pages, where FTS5 keeps it until it puts them together: before SQLite 3.42. */
export async function scrubSearch(driver: SqliteDriver): Promise<void> {
  await attempt(async () => {
    const erased = (await erasing(driver)).map(({ words }) => words);
    for (const { words } of await searchedTables(driver))
      if (words && !erased.includes(words)) await driver.run(merged(words));
  });
}

/** Whether the index of a table has all that it should. */
export async function isFresh(driver: SqliteDriver, { words }: SearchedTable): Promise<boolean> {
  return words !== "" && !(await driver.all("SELECT 1 FROM search_changed LIMIT 1"))[0];
}

/** Whether a table of FTS5 finds the record that came last, by its first word. */
export async function isSound(
  driver: SqliteDriver,
  { words, fields }: Pick<SearchedTable, "words" | "fields">,
): Promise<boolean> {
  const texts = fields.map((_, n) => `f${n}`).join(" || ");
  try {
    const [last] = await driver.all(
      `SELECT rowid AS n, ${texts} AS texts FROM ${words} ORDER BY rowid DESC LIMIT 1`,
    );
    if (!last) return true;
    const [word] = String(last.texts).trim().split(" ");
    const asked = `SELECT 1 FROM ${words} WHERE ${words} MATCH ? AND rowid = CAST(? AS INTEGER)`;
    return (await driver.all(asked, [`"${word}"`, last.n as number])).length > 0;
  } catch (error) {
    return PASSING.test(String(error));
  }
}

function configured(words: string, on: number): string {
  return `INSERT INTO ${words} (${words}, rank) VALUES ('secure-delete', ${on})`;
}

function merged(words: string): string {
  return `INSERT INTO ${words} (${words}) VALUES ('optimize')`;
}

/** The tables of FTS5 that leave nothing of what is deleted. */
async function erasing(driver: SqliteDriver): Promise<SearchedTable[]> {
  const found: SearchedTable[] = [];
  for (const one of await searchedTables(driver)) {
    const asked = `SELECT 1 FROM ${one.words}_config WHERE k = 'secure-delete' AND v = 1`;
    if (one.words && (await driver.all(asked))[0]) found.push(one);
  }
  return found;
}

/** The index of these tables is used no more. */
async function retire(driver: SqliteDriver, tables: readonly SearchedTable[]): Promise<void> {
  for (const { table } of tables) {
    await driver.run(`UPDATE search_tables SET words = '' WHERE "table" = ?`, [table]);
    await forget(driver, table);
  }
}

async function forget(driver: SqliteDriver, table: string): Promise<void> {
  await driver.run(`DELETE FROM search_records WHERE "table" = ?`, [table]);
  await driver.run(`DELETE FROM search_changed WHERE "table" = ?`, [table]);
}

/** Removes the tables of FTS5 that no searched table has any more, where it can. */
async function removeUnused(driver: SqliteDriver): Promise<void> {
  const used = (await searchedTables(driver)).map(({ words }) => words);
  const later = (name: SqliteValue): string => `UPDATE ${name}_config SET v = 4 WHERE k = 'version'`;
  for (const name of await tablesOfWords(driver)) {
    if (used.includes(name)) continue;
    const drop = `DROP TABLE ${name}`;
    // A later SQLite may have written it, or it is damaged; then its parts go, and the name alone stays.
    if (await attempt(() => inside(driver, async () => driver.run(drop)))) continue;
    const changed = async (): Promise<void> => {
      await driver.run(later(name));
      await driver.run(drop);
    };
    if (await attempt(() => inside(driver, changed))) continue;
    for (const part of ["data", "idx", "content", "docsize", "config"])
      await attempt(() => inside(driver, async () => driver.run(`DROP TABLE IF EXISTS ${name}_${part}`)));
  }
}

async function tablesOfWords(driver: SqliteDriver): Promise<string[]> {
  const rows = await driver.all(
    `SELECT name FROM sqlite_master WHERE name GLOB '${PREFIX}*' AND sql LIKE 'CREATE VIRTUAL%'`,
  );
  return rows.map(({ name }) => name as string);
}

/** An empty table of FTS5, and a note of each record that is to be in it. */
async function make(driver: SqliteDriver, { table, fields }: SearchedTable): Promise<void> {
  await removeUnused(driver);
  const used = (await tablesOfWords(driver)).map((name) => Number(name.slice(PREFIX.length)));
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
  await attempt(async () => driver.run(configured(name, 1))); // an older SQLite: see `scrubSearch`
  await driver.run(`UPDATE search_tables SET words = ? WHERE "table" = ?`, [name, table]);
  await forget(driver, table);
  await driver.run(
    `INSERT INTO search_changed (n, space, "table", id)
    SELECT (SELECT min(0, coalesce(min(n), 0)) FROM search_changed) - row_number() OVER (), space, "table", id
    FROM records WHERE "table" = ? AND deleted = 0`,
    [table],
  );
}

/** Whether it could be done. */
async function attempt(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (error instanceof Ended) throw error.cause;
    return false;
  }
}

/** SQLite has ended the transaction by itself. */
class Ended extends Error {}

/** What fails within leaves no trace, and the transaction goes on, unless SQLite has ended it. */
async function inside<T>(driver: SqliteDriver, work: () => Promise<T>): Promise<T> {
  await driver.run("SAVEPOINT search");
  try {
    const answer = await work();
    await driver.run("SAVEPOINT search_end"); // FTS5 writes its pages now: where RELEASE fails, there is no way back
    await driver.run("RELEASE search");
    return answer;
  } catch (error) {
    try {
      await driver.run("ROLLBACK TO search");
      await driver.run("RELEASE search");
    } catch {
      throw new Ended("the transaction is over", { cause: error });
    }
    throw error;
  }
}

/** What fails within leaves no trace; an index that is damaged is retired. `at`: whose index is worked on, to be kept by `work`. */
async function guarded<T>(driver: SqliteDriver, work: (at: SearchedTable[]) => Promise<T>): Promise<T> {
  const at: SearchedTable[] = [];
  try {
    return await inside(driver, () => work(at));
  } catch (error) {
    if (error instanceof Ended) throw error;
    const [{ many = 0 } = {}] = await driver.all(
      "SELECT coalesce(max(n) - min(n), 0) AS many FROM search_changed WHERE n >= 0",
    );
    const few = (many as number) < MOST_NOTED;
    if (!few || !PASSING.test(String(error)))
      await retire(driver, few && at[0] ? at : await searchedTables(driver));
    throw error;
  }
}

/** Brings some of the records up to date that were noted from `first` on. Returns whether none was left. */
async function step(driver: SqliteDriver, first: number, at: SearchedTable[]): Promise<boolean> {
  const [{ last = null } = {}] = await driver.all(
    `SELECT max(n) AS last FROM (SELECT n FROM search_changed WHERE n >= ? ORDER BY n LIMIT ${CHUNK})`,
    [first],
  );
  if (last === null) return true;
  for (const table of await searchedTables(driver)) {
    at[0] = table;
    if (table.words) await renew(driver, table, first, last);
  }
  await driver.run("DELETE FROM search_changed WHERE n BETWEEN ? AND ?", [first, last]);
  return false;
}

/** A record that was noted: its row, with the words that it had, and the words that it has. */
interface Noted {
  readonly row: SqliteRow;
  readonly own: readonly string[];
}

/** Puts the words of the records that were noted from `first` to `last`, as they stand, in the place of those that they had. */
async function renew(
  driver: SqliteDriver,
  table: SearchedTable,
  first: number,
  last: SqliteValue,
): Promise<void> {
  const changed = await changedWords(driver, table, first, last);
  if (!changed[0]) return;
  await take(driver, table, changed);
  await give(driver, table, changed);
}

async function changedWords(
  driver: SqliteDriver,
  { table, fields, words }: SearchedTable,
  first: number,
  last: SqliteValue,
): Promise<readonly Noted[]> {
  const held = fields.map((_, n) => `w.f${n}`).join(", ");
  const rows = await driver.all(
    `SELECT c.space, c.id, s.n, r.doc, ${held}
    FROM (SELECT DISTINCT space, id FROM search_changed WHERE n BETWEEN ? AND ? AND "table" = ?) c
    LEFT JOIN search_records s ON s."table" = ? AND s.space = c.space AND s.id = c.id
    LEFT JOIN records r ON r.space = c.space AND r."table" = ? AND r.id = c.id AND r.deleted = 0
    LEFT JOIN ${words} w ON w.rowid = s.n`,
    [first, last, table, table, table],
  );
  return rows
    .map((row) => ({ row, own: textsOf(row, fields) }))
    .filter(({ row, own }) => fields.some((_, place) => (row[`f${place}`] ?? "") !== own[place]));
}

const hasWords = ({ own }: Noted): boolean => own.some((text) => text);
const isKnown = ({ row }: Noted): boolean => (row.n ?? null) !== null;

/** Takes out what they had, and those that have nothing now. */
async function take(
  driver: SqliteDriver,
  { words }: SearchedTable,
  changed: readonly Noted[],
): Promise<void> {
  const old = JSON.stringify(changed.filter(isKnown).map(({ row }) => row.n));
  await driver.run(`DELETE FROM ${words} WHERE rowid IN (SELECT value FROM json_each(?))`, [old]);
  const gone = changed.filter((one) => isKnown(one) && !hasWords(one)).map(({ row }) => row.n);
  if (gone[0])
    await driver.run("DELETE FROM search_records WHERE n IN (SELECT value FROM json_each(?))", [
      JSON.stringify(gone),
    ]);
}

async function give(
  driver: SqliteDriver,
  { table, fields, words }: SearchedTable,
  changed: readonly Noted[],
): Promise<void> {
  const fresh = changed.filter((one) => !isKnown(one)).map(({ row }) => [row.space, row.id]);
  if (fresh[0])
    await driver.run(
      `INSERT INTO search_records ("table", space, id)
      SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)`,
      [table, JSON.stringify(fresh)],
    );
  const put = changed.filter(hasWords).map(({ row, own }) => [row.space, row.id, ...own]);
  const values = fields.map((_, n) => `json_extract(k.value, '$[${n + 2}]')`);
  if (put[0])
    await driver.run(
      `INSERT INTO ${words} (rowid, ${columnsOf(fields)}) SELECT s.n, ${values} FROM json_each(?) k
      CROSS JOIN search_records s ON s."table" = ? AND s.space = json_extract(k.value, '$[0]')
      AND s.id = json_extract(k.value, '$[1]')`,
      [JSON.stringify(put), table],
    );
}

function textsOf(row: SqliteRow, fields: readonly string[]): string[] {
  const doc = (typeof row.doc === "string" ? parse(row.doc) : {}) as JsonObject;
  return textsAt((field) => (Object.hasOwn(doc, field) ? doc[field] : undefined), fields);
}

function columnsOf(fields: readonly string[]): string {
  return fields.map((_, n) => `f${n}`).join(", ");
}
