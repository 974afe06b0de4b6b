/** An inverted index in memory, for stores that have none of their own. */

import { type Key, keyText } from "../data/change.js";
import { compareText } from "../data/order.js";
import { type AskedWord, rankOf, textsAt } from "../data/searched.js";
import { keyOf, type RecordRow } from "../store/store.js";

/** A record that has words: those of each field, as one text. */
interface Indexed {
  readonly key: Key;
  readonly texts: readonly string[];
}

interface Hit {
  readonly key: Key;
  readonly rank: readonly [points: number, hits: number];
}

/** The records of one table by their words. */
export class SmallIndex {
  readonly #fields: readonly string[];
  #records = new Map<number, Indexed>();
  #numbers = new Map<string, number>();
  /** The numbers of the records that have a word, from the least to the greatest. */
  #words = new Map<string, number[]>();
  #last = 0;

  constructor(fields: readonly string[]) {
    this.#fields = fields;
  }

  /** Forgets all. */
  clear(): void {
    this.#records = new Map();
    this.#numbers = new Map();
    this.#words = new Map();
  }

  /** A record as it stands in the store; undefined: there is none. Returns whether it has other words than before. */
  set(key: Key, row: RecordRow | undefined): boolean {
    const name = keyText(key);
    const number = this.#numbers.get(name);
    const before = number === undefined ? [] : (this.#records.get(number)?.texts ?? []);
    const texts = row && !row.deleted ? textsAt((field) => row.view.get(field)?.value, this.#fields) : [];
    if (this.#fields.every((_, n) => (before[n] ?? "") === (texts[n] ?? ""))) return false;
    if (number !== undefined) this.#remove(name, number, before);
    if (texts.some((text) => text)) this.#add(name, { key: row ? keyOf(row) : key, texts });
    return true;
  }

  #add(name: string, record: Indexed): void {
    this.#last += 1;
    this.#numbers.set(name, this.#last);
    this.#records.set(this.#last, record);
    for (const word of distinct(record.texts)) {
      const numbers = this.#words.get(word);
      if (numbers) numbers.push(this.#last);
      else this.#words.set(word, [this.#last]);
    }
  }

  #remove(name: string, number: number, texts: readonly string[]): void {
    this.#numbers.delete(name);
    this.#records.delete(number);
    for (const word of distinct(texts)) {
      const numbers = this.#words.get(word) as number[];
      numbers.splice(placeOf(numbers, number), 1);
      if (!numbers[0]) this.#words.delete(word);
    }
  }

  /** The records that have every word, best first. `space`: null searches every space. */
  find(space: string | null, asked: readonly AskedWord[], limit: number): Key[] {
    const hits: Hit[] = [];
    for (const number of this.#fewest(asked)) {
      const { key, texts } = this.#records.get(number) as Indexed;
      const rank = space === null || key[0] === space ? rankOf(texts, asked) : undefined;
      if (rank) hits.push({ key, rank });
    }
    return hits
      .sort(compareHits)
      .slice(0, limit)
      .map(({ key }) => key);
  }

  /** The numbers of all records that have one of the words, of which there are few. */
  #fewest(asked: readonly AskedWord[]): Iterable<number> {
    const whole = asked.filter(({ begins }) => !begins).map(({ word }) => this.#words.get(word) ?? []);
    const [fewest] = whole.sort((one, other) => one.length - other.length);
    if (fewest || !asked[0]) return fewest ?? [];
    const found = new Set<number>();
    const { word } = asked[0];
    for (const [held, numbers] of this.#words)
      if (held.startsWith(word)) for (const number of numbers) found.add(number);
    return found;
  }
}

function compareHits({ key, rank }: Hit, { key: otherKey, rank: other }: Hit): number {
  return (
    other[0] - rank[0] ||
    other[1] - rank[1] ||
    compareText(key[2], otherKey[2]) ||
    compareText(key[0], otherKey[0])
  );
}

function distinct(texts: readonly string[]): Iterable<string> {
  return new Set(texts.join("").match(/[^ ]+/g) ?? []);
}

/** Where a number stands in a list that has it, from the least to the greatest. */
function placeOf(numbers: readonly number[], number: number): number {
  let low = 0;
  let high = numbers.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((numbers[middle] as number) < number) low = middle + 1;
    else high = middle;
  }
  return low;
}
