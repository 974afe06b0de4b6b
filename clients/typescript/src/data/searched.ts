/** The words of texts as they are searched for, and which records come first: the same in every client. Pure. */

import { InvalidQuery } from "../errors.js";
import { checkId } from "./change.js";
import { valueAt } from "./row.js";
import type { Json } from "./values.js";

/** Of what is below: an index of another one is made again. */
export const RULE = 1;
/** Words of a question that count. */
const MOST_WORDS = 32;
/** Characters of a word that count. */
const LONGEST = 64;
const MOST_FIELDS = 16;
/** Thai, Lao, Burmese, Khmer, Japanese and Chinese letters, between whose words is no space. */
const UNSPACED =
  "\\u0e00-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff\\u3005-\\u3007\\u3040-\\u30ff\\u31f0-\\u31ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\u{20000}-\\u{3ffff}";
const PIECES = new RegExp(`[${UNSPACED}]+|[^${UNSPACED}]+`, "gu");
const IS_UNSPACED = new RegExp(`^[${UNSPACED}]`, "u");

/** A word that is searched for; `begins`: words that begin with it are meant too. */
export interface AskedWord {
  readonly word: string;
  readonly begins: boolean;
}

/** The fields that are searched, by table, the weightiest first. */
export type SearchedFields = ReadonlyMap<string, readonly string[]>;

/** What an application declares. Raises InvalidQuery. */
export function readSearch(search: object): SearchedFields {
  const read = new Map(Object.entries(search) as [string, readonly string[]][]);
  for (const [table, fields] of read) {
    checkId("the table", table, InvalidQuery);
    if (!Array.isArray(fields) || !fields[0] || fields[MOST_FIELDS] || new Set(fields).size < fields.length)
      throw new InvalidQuery(`${table} is searched in a list of 1 to ${MOST_FIELDS} fields, each once.`);
    for (const field of fields) checkId("a field name", field, InvalidQuery);
  }
  return read;
}

/** A text without what words are not told apart by: compatible forms, marks, and case. */
function fold(text: string): string {
  return text
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .toLowerCase()
    .replace(/ß/g, "ss")
    .replace(/ς/g, "σ");
}

function isAscii(text: string): boolean {
  return !/[^\0-\x7f]/.test(text);
}

/** The runs of letters and digits, divided where a script without spaces begins or ends. */
function piecesOf(text: string): readonly string[] {
  if (isAscii(text)) return text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
  return (fold(text).match(/[\p{L}\p{N}]+/gu) ?? []).flatMap((run) => run.match(PIECES) ?? []);
}

function cut(piece: string): string {
  return piece.length > LONGEST ? [...piece].slice(0, LONGEST).join("") : piece;
}

/** The words of a text, in their order. Where a script has no spaces: each letter with the next one. */
export function wordsOf(text: string): string[] {
  const pieces = piecesOf(text);
  if (isAscii(text)) return pieces.map(cut);
  return pieces.flatMap((piece) => {
    if (!IS_UNSPACED.test(piece)) return cut(piece);
    const letters = [...piece];
    return letters.map((letter, n) => letter + (letters[n + 1] ?? ""));
  });
}

/** What a question searches for, each once: all its words, and for the last one also words that begin with it. */
export function askedWords(text: string): AskedWord[] {
  const asked = piecesOf(text).flatMap((piece): AskedWord[] => {
    if (!IS_UNSPACED.test(piece)) return [{ word: cut(piece), begins: false }];
    const letters = [...piece];
    if (!letters[1]) return [{ word: piece, begins: true }]; // it stands before any other letter
    return letters.slice(1).map((letter, n) => ({ word: (letters[n] as string) + letter, begins: false }));
  });
  const some = new Map(asked.slice(0, MOST_WORDS).map((one) => [`${one.begins ? "*" : ""}${one.word}`, one]));
  const last = asked.at(-1);
  if (!last || asked.length > MOST_WORDS) return [...some.values()];
  return [...[...some.values()].filter(({ word }) => word !== last.word), { ...last, begins: true }];
}

/** Of each field the words as one text, each between two spaces of its own; of a list those of the texts in it. `own`: a field. */
export function textsAt(own: (field: string) => Json | undefined, fields: readonly string[]): string[] {
  return fields.map((path) => {
    const value = valueAt(own, path);
    const texts = Array.isArray(value) ? value : [value];
    const words = texts.flatMap((text) => (typeof text === "string" ? wordsOf(text) : []));
    return words.length > 0 ? ` ${words.join("  ")} ` : "";
  });
}

/**
 * What a record comes to: the points of the best place of each word, and how often all of them are there; undefined where one is
 * not. A word's points are the more the earlier its first field stands, and one more where it is there as a whole.
 */
export function rankOf(
  texts: readonly string[],
  asked: readonly AskedWord[],
): readonly [points: number, hits: number] | undefined {
  let points = 0;
  let hits = 0;
  for (const { word, begins } of asked) {
    const whole = ` ${word} `;
    const counted = begins ? ` ${word}` : whole;
    const field = texts.findIndex((text) => text.includes(counted));
    if (field < 0) return undefined;
    points += 2 * (texts.length - field) + +(texts[field] as string).includes(whole);
    for (const text of texts) {
      for (let at = text.indexOf(counted); at >= 0; at = text.indexOf(counted, at + counted.length))
        hits += 1;
    }
  }
  return [points, hits];
}
