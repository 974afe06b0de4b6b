/** The indexes of one table in one space, in memory. Pure. */

import { type Key, keyText } from "../data/change.js";
import type { IndexRange } from "../data/indexed.js";
import { compareText, compareValues } from "../data/order.js";
import { type Json, kindOf } from "../data/values.js";
import { keyOf, type RecordRow } from "../store/store.js";
import { SortedBlocks } from "./sorted.js";

/** A record that is not deleted, with the values of the indexed fields. */
export interface Entry {
  readonly key: Key;
  readonly text: string;
  readonly values: readonly Json[];
}

/** One index: its fields by their places among all, and its entries in order. */
interface SortedEntries {
  readonly places: readonly number[];
  readonly compare: (one: Entry, other: Entry) => number;
  entries: SortedBlocks<Entry>;
}

const LIST: Json = [];
const OBJECT: Json = {};

export class TableEntries {
  readonly #fields: readonly string[];
  readonly #indexes = new Map<string, SortedEntries>();
  readonly #entries = new Map<string, Entry>();

  constructor(indexes: readonly (readonly string[])[]) {
    this.#fields = [...new Set(indexes.flat())];
    for (const fields of indexes) {
      const places = fields.map((field) => this.#fields.indexOf(field));
      const empty = { places, compare: orderBy(places), entries: new SortedBlocks<Entry>() };
      this.#indexes.set(JSON.stringify(fields), empty);
    }
  }

  /** How many there are. */
  get size(): number {
    return this.#entries.size;
  }

  #entryOf(row: RecordRow | undefined): Entry | undefined {
    if (!row || row.deleted) return undefined;
    const key = keyOf(row);
    return { key, text: keyText(key), values: this.#fields.map((field) => valueIn(row, field)) };
  }

  /** Whether a record, which is undefined where there is none, is what an entry says. */
  says({ values }: Entry, row: RecordRow | undefined): boolean {
    return (
      row?.deleted === false && this.#fields.every((field, place) => valueIn(row, field) === values[place])
    );
  }

  /** Records as they stand in the store now; undefined: there is none. */
  set(rows: Iterable<readonly [text: string, row: RecordRow | undefined]>): void {
    const gone: Entry[] = [];
    const come: Entry[] = [];
    for (const [text, row] of rows) {
      const before = this.#entries.get(text);
      if (before && this.says(before, row)) continue;
      const entry = this.#entryOf(row);
      if (before) gone.push(before);
      if (entry) come.push(entry);
      if (entry) this.#entries.set(text, entry);
      else this.#entries.delete(text);
    }
    if (!gone[0] && !come[0]) return;
    for (const index of this.#indexes.values())
      index.entries = index.entries.changed(index.compare, gone, come);
  }

  /** The entries of a part of an index, in its order, as they are now. */
  part(range: IndexRange): Generator<Entry> {
    const { places, entries } = this.#indexes.get(JSON.stringify(range.fields)) as SortedEntries;
    const start = entries.first((entry) => placeOf(entry, range, places) >= 0);
    const end = entries.first((entry) => placeOf(entry, range, places) > 0);
    if (!range.descending) return entries.between(start, end);
    return backwards(entries, start, end, orderBy(places.slice(0, range.equal.length + range.sorted), false));
  }
}

/** From the end: those that are alike by what it is sorted by stand in the order of their ids all the same. */
function* backwards(
  entries: SortedBlocks<Entry>,
  start: number,
  end: number,
  run: (one: Entry, other: Entry) => number,
): Generator<Entry> {
  for (let last = end; last > start; ) {
    const held = entries.at(last - 1);
    const begin = entries.first((entry) => run(entry, held) >= 0);
    const first = Math.max(start, begin);
    yield* entries.between(first, last);
    last = first;
  }
}

/** The value of a field, where lists are as one another, and objects too: they have no order. */
function valueIn(row: RecordRow, field: string): Json {
  const value = row.view.get(field)?.value ?? null;
  if (typeof value !== "object" || value === null) return value;
  return kindOf(value) === "list" ? LIST : OBJECT;
}

function orderBy(places: readonly number[], ids = true): (one: Entry, other: Entry) => number {
  return (one, other) => {
    for (const place of places) {
      const decided = compareValues(one.values[place], other.values[place]);
      if (decided) return decided;
    }
    return ids ? compareText(one.key[2], other.key[2]) : 0;
  };
}

/** Where an entry is: before the part (less than 0), in it, or behind it. */
function placeOf({ values }: Entry, { equal, low, high }: IndexRange, places: readonly number[]): number {
  for (const [n, value] of equal.entries()) {
    const decided = compareValues(values[places[n] as number], value);
    if (decided) return decided;
  }
  const value = values[places[equal.length] as number];
  const above = low ? compareValues(value, low.value) : 1;
  if (above < 0 || (above === 0 && !low?.inclusive)) return -1;
  const below = high ? compareValues(value, high.value) : -1;
  return below > 0 || (below === 0 && !high?.inclusive) ? 1 : 0;
}
