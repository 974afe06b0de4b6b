/** The indexes of one table in memory. Pure. */

import { type Key, keyText } from "../data/change.js";
import type { IndexRange } from "../data/indexed.js";
import { compareText, compareValues } from "../data/order.js";
import { type Json, kindOf } from "../data/values.js";
import { keyOf, type RecordRow } from "../store/store.js";

/** A record that is not deleted, with the values of the indexed fields. */
export interface Entry {
  readonly key: Key;
  readonly text: string;
  readonly values: readonly Json[];
}

/** One index: its fields by their places among all, and the entries of each space in order. No list of them ever changes. */
interface SortedEntries {
  readonly places: readonly number[];
  readonly spaces: Map<string, readonly Entry[]>;
}

const LIST: Json = [];
const OBJECT: Json = {};

export class TableEntries {
  readonly #fields: readonly string[];
  readonly #indexes = new Map<string, SortedEntries>();
  readonly #entries = new Map<string, Entry>();

  constructor(indexes: readonly (readonly string[])[], rows: readonly RecordRow[]) {
    this.#fields = [...new Set(indexes.flat())];
    const spaces = new Map<string, Entry[]>();
    for (const row of rows) {
      const entry = this.#entryOf(row);
      if (!entry) continue;
      this.#entries.set(entry.text, entry);
      const some = spaces.get(row.space);
      if (some) some.push(entry);
      else spaces.set(row.space, [entry]);
    }
    for (const fields of indexes) {
      const places = fields.map((field) => this.#fields.indexOf(field));
      const compare = orderBy(places);
      const sorted = Array.from(spaces, ([space, some]) => [space, [...some].sort(compare)] as const);
      this.#indexes.set(JSON.stringify(fields), { places, spaces: new Map(sorted) });
    }
  }

  /** How many there are, of all spaces. */
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
  set(rows: ReadonlyMap<string, RecordRow | undefined>): void {
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
    for (const space of new Set([...gone, ...come].map(({ key }) => key[0])))
      for (const index of this.#indexes.values()) renew(index, space, gone, come);
  }

  /** The entries of a part of an index, in its order. */
  *part(range: IndexRange): Generator<Entry> {
    const { places, spaces } = this.#indexes.get(JSON.stringify(range.fields)) as SortedEntries;
    const entries = spaces.get(range.space) ?? [];
    const start = firstOf(entries, (entry) => placeOf(entry, range, places) >= 0);
    const end = firstOf(entries, (entry) => placeOf(entry, range, places) > 0);
    const run = orderBy(places.slice(0, range.equal.length + range.sorted), false);
    for (let last = end; range.descending && last > start; ) {
      const held = entries[last - 1] as Entry;
      const first = Math.max(
        start,
        firstOf(entries, (entry) => run(entry, held) >= 0),
      );
      for (let n = first; n < last; n += 1) yield entries[n] as Entry;
      last = first;
    }
    for (let n = start; !range.descending && n < end; n += 1) yield entries[n] as Entry;
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

/** The first place in a list whose entry, as all behind it, is so. */
function firstOf(entries: readonly Entry[], isSo: (entry: Entry) => boolean): number {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isSo(entries[middle] as Entry)) high = middle;
    else low = middle + 1;
  }
  return low;
}

function renew(index: SortedEntries, space: string, gone: readonly Entry[], come: readonly Entry[]): void {
  const compare = orderBy(index.places);
  const entries = [...(index.spaces.get(space) ?? [])];
  const place = (wanted: Entry): number => firstOf(entries, (entry) => compare(entry, wanted) >= 0);
  for (const entry of gone) if (entry.key[0] === space) entries.splice(place(entry), 1);
  for (const entry of come) if (entry.key[0] === space) entries.splice(place(entry), 0, entry);
  index.spaces.set(space, entries);
}
