/** Search in a file of SQLite: FTS5 finds the records, and SQL says which are first, by the rule of data/searched.ts. */

import type { AskedWord } from "../data/searched.js";
import type { SqliteDriver, SqliteRow, SqliteValue } from "./driver.js";
import { isFresh, isSound, type SearchedTable, saidOf, searchedTables } from "./search-index.js";

/**
 * The keys of the records that have every word in these fields, best first. Undefined: they are not searched here, as where there was
 * no room to say so, or their index does not have all that it should: another one has to answer.
 */
export async function searchedKeys(
  driver: SqliteDriver,
  table: string,
  fields: readonly string[],
  space: string | null,
  asked: readonly AskedWord[],
  limit: number,
): Promise<readonly SqliteRow[] | undefined> {
  try {
    const searched = (await searchedTables(driver)).find((one) => one.table === table);
    if (searched?.said !== saidOf(fields) || !(await isFresh(driver, searched))) return undefined;
    const found = await driver.all(...statementOf(searched, space, asked, limit));
    return found[0] || (await isSound(driver, searched)) ? found : undefined;
  } catch {
    return undefined; // it is damaged, or this SQLite has no FTS5
  }
}

function statementOf(
  { words, fields }: SearchedTable,
  space: string | null,
  asked: readonly AskedWord[],
  limit: number,
): readonly [sql: string, values: readonly SqliteValue[]] {
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
