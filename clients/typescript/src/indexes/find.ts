/** What a query needs, read by an index: in the store's own, or in one that is kept in memory. */

import { keyText } from "../data/change.js";
import { areApart, isExact } from "../data/indexed.js";
import { type Row, rowOf } from "../data/row.js";
import type { Json } from "../data/values.js";
import { type CompiledQuery, readerOf } from "../query.js";
import { keyOf, type RecordRow, type Transaction } from "../store/store.js";
import type { KeptIndexes } from "./kept.js";
import type { IndexPlan } from "./plan.js";

/** So many more than are asked for are read at once: some may not match, and the last one may have equals. */
const MORE = 8;
/** From so many on it counts how they are read. */
const MANY = 100;

/** A record of the index as it comes. `row`: as it was read before. */
interface Item<F extends object> {
  readonly text: string;
  readonly row: Row<F> | undefined;
  readonly record: RecordRow | undefined;
}

/** The next items, so many, fewer at the end. Null: there is no such index, or it is not what the store is. */
type Next<F extends object> = (count: number) => Promise<readonly Item<F>[] | null>;

/** `before`: the row of a record that was read before, and has not changed. */
export interface Reading<F extends object> {
  readonly asked: CompiledQuery<F>;
  readonly plan: IndexPlan;
  readonly tx: Transaction;
  readonly before: (text: string) => Row<F> | undefined;
}

/** The records that match, of those in order at least as many as are asked for, by key. */
export async function find<F extends object>(
  reading: Reading<F>,
  kept: KeptIndexes,
): Promise<Map<string, Row<F>>> {
  return (
    (await collect(reading, ownNext(reading))) ??
    (await collect(reading, await keptNext(reading, kept))) ??
    scan(reading)
  );
}

async function collect<F extends object>(
  reading: Reading<F>,
  next: Next<F>,
): Promise<Map<string, Row<F>> | null> {
  const collected = new Collected(reading);
  for (let count = Math.max(1, collected.missing) + (reading.plan.decided ? 0 : MORE); ; count *= 2) {
    const items = await next(count);
    if (!items) return null;
    if (items.some((item) => collected.take(item)) || items.length < count) return collected.rows;
  }
}

/** What was found of the items so far. */
class Collected<F extends object> {
  readonly rows = new Map<string, Row<F>>();
  /** How many are still to be found. */
  missing: number;
  readonly #reading: Reading<F>;
  readonly #sortedBy: readonly string[];
  /** What the last of those that are asked for is sorted by. */
  #last: readonly Json[] | null = null;

  constructor(reading: Reading<F>) {
    const { asked, plan } = reading;
    const { fields, equal, sorted } = plan.range;
    this.#reading = reading;
    this.missing = plan.sorted ? (asked.offset ?? 0) + (asked.limit ?? Infinity) : Infinity;
    this.#sortedBy = fields.slice(equal.length, equal.length + sorted);
  }

  /** Takes one more. Whether it, and all behind it, come behind those that are asked for. */
  take({ text, row, record }: Item<F>): boolean {
    const { asked, plan } = this.#reading;
    const fits = row ?? (record && asked.matches(record.view, record.deleted) && rowOf<F>(record));
    const read = record ? (field: string) => record.view.get(field)?.value : row && readerOf(row);
    const values = this.#sortedBy.map((field) => read?.(field) ?? null);
    if (this.#last && areApart(this.#last, values)) return true;
    if (!fits) return false;
    this.rows.set(text, fits);
    if (!asked.after || asked.compare(asked.after, fits) < 0) this.missing -= 1;
    if (this.missing > 0) return false;
    this.#last ??= values;
    return plan.exact && this.#last.every(isExact);
  }
}

/** Of a store that has the index. */
function ownNext<F extends object>({ plan: { range }, tx, before }: Reading<F>): Next<F> {
  let start = 0;
  return async (count) => {
    const keys = await tx.ranged?.(range, start, count);
    if (!keys) return null;
    start += count;
    const all = keys.map((key) => ({ key, text: keyText(key) }));
    const unread = all.filter(({ text }) => !before(text)).map(({ key }) => key);
    const records = byKey(await tx.among(unread));
    return all.map(({ text }) => ({ text, row: before(text), record: records.get(text) }));
  };
}

async function keptNext<F extends object>(
  { plan: { range }, tx, before }: Reading<F>,
  kept: KeptIndexes,
): Promise<Next<F>> {
  const renewed = await kept.entries(tx);
  if (!renewed) return async () => null;
  const { entries, records } = renewed;
  const part = entries.part(range);
  return async (count) => {
    const taken = [];
    for (let next = part.next(); !next.done; next = part.next()) if (taken.push(next.value) >= count) break;
    const unknown = taken.filter(({ text }) => !before(text));
    const unread = unknown.filter(({ text }) => !records.has(text));
    // One by one they take longer than all of them at once.
    if (unread.length > MANY && unread.length * 4 > entries.size) return null;
    const read = await Promise.all(unread.map(({ key }) => tx.get("records", key)));
    const held = new Map([...records, ...byKey(read.filter((row) => row !== undefined))]);
    // Another tab may have written what is not told yet.
    const stale = unknown.filter((entry) => !entries.says(entry, held.get(entry.text)));
    for (const { key } of stale) kept.note(key);
    if (stale[0]) return null;
    return taken.map(({ text }) => ({ text, row: before(text), record: held.get(text) }));
  };
}

function byKey(rows: readonly RecordRow[]): Map<string, RecordRow> {
  return new Map(rows.map((row) => [keyText(keyOf(row)), row]));
}

/** All of them, one by one. */
async function scan<F extends object>({ asked, tx }: Reading<F>): Promise<Map<string, Row<F>>> {
  const rows = await tx.all("records", [asked.space ?? "", asked.table]);
  const matching = rows.filter((row) => asked.matches(row.view, row.deleted));
  return new Map(matching.map((row) => [keyText(keyOf(row)), rowOf<F>(row)]));
}
