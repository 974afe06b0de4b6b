/** Declared indexes in a file of SQLite, which keeps them itself, whichever version writes: how they are made, and read. */

import type { Key } from "../data/change.js";
import { around, type Bound, type IndexRange, isExact, readIndexes } from "../data/indexed.js";
import { type Json, kindOf } from "../data/values.js";
import type { SqliteDriver, SqliteValue } from "./driver.js";

/** Those of this kind have names that begin so. */
const PREFIX = "fields ";

/** The indexes that a file is to have: the statement that makes each, by its name. */
type Wanted = Map<string, string>;

/**
 * Removes those that were declared before and are not among these, and those of another version of SQLite: versions round numbers
 * otherwise, and a write that looks for what another one has put into an index fails. Answers which are still to be made. Null:
 * nothing is declared, and those of this version stay. Raises InvalidQuery.
 */
export async function removeIndexes(driver: SqliteDriver, declared: object | null): Promise<Wanted> {
  const version = String((await driver.all("SELECT sqlite_version() AS version"))[0]?.version);
  const wanted: Wanted = new Map();
  for (const [table, all] of declared ? readIndexes(declared) : [])
    for (const fields of all) wanted.set(nameOf(table, fields), statementOf(table, fields, version));
  const held = await driver.all(
    `SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name GLOB '${PREFIX}*'`,
  );
  for (const { name, sql } of held as { name: string; sql: string }[]) {
    const stays = declared ? wanted.get(name) === sql : sql.includes(madeBy(version));
    if (stays) wanted.delete(name);
    else await driver.run(`DROP INDEX ${quotedName(name)}`);
  }
  return wanted;
}

export async function makeIndexes(driver: SqliteDriver, wanted: Wanted): Promise<void> {
  for (const statement of wanted.values()) await driver.run(statement);
}

/** The keys of a part of an index; undefined where the file has no such one, as where there was no room for it. */
export async function rangedKeys(
  driver: SqliteDriver,
  range: IndexRange,
  start: number,
  count: number,
): Promise<Key[] | undefined> {
  const { table, space, fields, equal, low, high } = range;
  const columns = fields.map(valueIn);
  const next = columns[equal.length] as string;
  const clauses = [
    ...equal.map((value, n) => equals(columns[n] as string, value)),
    ...(low ? [above(next, low)] : []),
    ...(high ? [below(next, high, low !== null)] : []),
  ];
  const where = [
    `"table" = ${quotedText(table)} AND deleted = 0 AND space = ?`,
    ...clauses.map(({ sql }) => sql),
  ];
  const sql = `SELECT id FROM records INDEXED BY ${quotedName(nameOf(table, fields))}
    WHERE ${where.join(" AND ")}${orderBy(range, columns)} LIMIT ? OFFSET ?`;
  const limit = Number.isFinite(count) ? count : -1;
  try {
    const found = await driver.all(sql, [space, ...clauses.flatMap(({ values }) => values), limit, start]);
    return found.map(({ id }) => [space, table, id as string]);
  } catch {
    return undefined;
  }
}

/** By what it has in order: of fields left, or of none, the ids come last. */
function orderBy({ equal, sorted, descending }: IndexRange, columns: readonly string[]): string {
  const rest = columns.slice(equal.length);
  const way = descending ? " DESC" : "";
  const terms = rest.slice(0, descending ? sorted : rest.length).map((column) => `${column}${way}`);
  return sorted || !rest[0] ? ` ORDER BY ${[...terms, "id"].join(", ")}` : "";
}

/** SQLite takes two names as one that differ in capitals only. */
function nameOf(table: string, fields: readonly string[]): string {
  return PREFIX + JSON.stringify([table, ...fields]).replace(/[A-Z^]/g, "^$&");
}

function statementOf(table: string, fields: readonly string[], version: string): string {
  const columns = ["space", ...fields.map(valueIn), "id"].join(", ");
  const part = `"table" = ${quotedText(table)} AND deleted = 0`;
  return `CREATE INDEX ${quotedName(nameOf(table, fields))} ON records ${madeBy(version)} (${columns}) WHERE ${part}`;
}

/** What a statement says of its version, which SQLite keeps with the index. */
function madeBy(version: string): string {
  return `/* ${version} */`;
}

/** What a field has, so that SQLite sorts it as all do: null, numbers and truth values, texts, lists, objects. */
function valueIn(field: string): string {
  const path = quotedText(`$."${field}"`);
  return `CASE json_type(doc, ${path}) WHEN 'array' THEN x'00' WHEN 'object' THEN x'01' ELSE json_extract(doc, ${path}) END`;
}

function quotedText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function quotedName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A part of a statement. */
interface Clause {
  readonly sql: string;
  readonly values: readonly SqliteValue[];
}

/** What stands for a value that SQLite holds as it is; null: it is a number that SQLite may round. */
function operandOf(value: Json): Clause | null {
  const kind = kindOf(value);
  if (kind === "list" || kind === "object") return { sql: kind === "list" ? "x'00'" : "x'01'", values: [] };
  if (kind === "boolean") return { sql: "?", values: [Number(value)] };
  return isExact(value) ? { sql: "?", values: [value as SqliteValue] } : null;
}

function equals(column: string, value: Json): Clause {
  if (value === null) return { sql: `${column} IS NULL`, values: [] };
  const operand = operandOf(value);
  return operand
    ? { sql: `${column} = ${operand.sql}`, values: operand.values }
    : { sql: `${column} BETWEEN ? AND ?`, values: around(value) };
}

function above(column: string, { value, inclusive }: Bound): Clause {
  if (value === -Infinity) return { sql: `${column} IS NOT NULL`, values: [] };
  if (value === null) return { sql: "true", values: [] };
  const { sql, values } = operandOf(value) ?? { sql: "?", values: [around(value)[0]] };
  return { sql: `${column} ${inclusive ? ">=" : ">"} ${sql}`, values };
}

/** `bounded`: there is a lower bound, and so no null. */
function below(column: string, { value, inclusive }: Bound, bounded: boolean): Clause {
  if (value === null) return { sql: `${column} IS NULL`, values: [] };
  if (value === Infinity) return { sql: `${column} < ''`, values: [] };
  const { sql, values } = operandOf(value) ?? { sql: "?", values: [around(value)[1]] };
  const said = `${column} ${inclusive ? "<=" : "<"} ${sql}`;
  return { sql: bounded ? said : `(${column} IS NULL OR ${said})`, values };
}
